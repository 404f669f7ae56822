"""A world that runs in a thread of its own, so that it can be stopped in the middle of whatever it does.

    who debugs                                    the world's thread
    run(limits), resume() ---- go on --------->   World.run ... an observer, or the engine's hook ... halt(happening)
                          <--- Halted, Stop ---                                                         |
                                                  <---- the same call returns when it is to go on ------'

One of the two runs, never both: each waits for the other. So nothing is locked, and nothing depends on time.
"""

import threading
from queue import SimpleQueue

from vmm.session.debugger.happening import Happening
from vmm.session.spec import Limits
from vmm.session.world.world import Stop, World


class _Abandoned(BaseException):
    """The world is not wanted any more: it leaves what it is in."""


class Life:
    """The life of `world`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_halted = False  # within something
        self._is_wanted = True
        self._orders: SimpleQueue[Limits | None] = SimpleQueue()
        self._answers: SimpleQueue[Happening | Stop | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="sidecore world", daemon=True)
        self._thread.start()

    def run(self, limits: Limits) -> Happening | Stop:
        """Let it run, or go on from where it is halted, until it is halted or at rest.

        Limits count where it was at rest. Ctrl-C pauses it. Raises what `World.run` does.
        """
        self.is_halted = False
        self._orders.put(limits)
        while True:
            try:
                answer = self._answers.get()
                break
            except KeyboardInterrupt:
                self.world.pause()
        if isinstance(answer, BaseException):
            raise answer
        self.is_halted = isinstance(answer, Happening)
        return answer

    def halt(self, happening: Happening) -> None:
        """From the world's thread: stop here until it is to go on."""
        self._answers.put(happening)
        self._orders.get()
        if not self._is_wanted:
            raise _Abandoned

    def end(self) -> None:
        """It never goes on."""
        self._is_wanted = False
        self._orders.put(None)
        self._thread.join()

    def _live(self) -> None:
        while True:
            limits = self._orders.get()
            if not self._is_wanted:
                return
            try:
                self._answers.put(self.world.run(limits))
            except _Abandoned:
                return
            except BaseException as error:
                self._answers.put(error)

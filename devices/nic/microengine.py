"""Microengines: contexts that take turns, and run until they ask a unit for something.

              begins                 asks a unit, or waits
    inactive --------> executing --------------------------> sleep
                           ^                                   |
                           | engine is free: swap              | answered
                           '------------- ready <--------------'

What a context does is a program (programs.py): a generator function of which each call is one piece of work. It yields
requests and gets their answers. A program is pure but for that, so that its generator need not be kept: it follows from
the answers since the piece began, and is made again from them after a snapshot.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from devices.nic.chip import Chip

INACTIVE, READY, EXECUTING, SLEEP = "inactive", "ready", "executing", "sleep"
CONTEXT_COUNT = 8


class Me(NamedTuple):
    """What a program knows of the context it runs on: `number` of `contexts` that run its program."""

    number: int
    contexts: int


Program = Generator[Any, Any, None]
ProgramFunction = Callable[[Me], Program]


class Handler(NamedTuple):
    """How a request is served: it is begun, and some time later it is done."""

    begin: Callable[["Context", Any, int], int | None]  # asked at a time: when is it done? None: `hand` or `retry` says
    finish: Callable[["Context", Any], Any]  # done, now: the answer


class Live:
    """The generator of a context, which follows from its program and answers: a snapshot leaves it alone."""

    def __init__(self) -> None:
        self.generator: Program | None = None


class Turns:
    """The order in which contexts that share a program took what they work on: whoever puts waits for those before."""

    def __init__(self) -> None:
        self._taken = self._turn = 0
        self._over: list[int] = []  # tickets that have ended out of turn
        self._waiting: dict[int, Context] = {}

    def take(self) -> int:
        """A ticket."""
        self._taken += 1
        return self._taken - 1

    def is_turn(self, ticket: int, context: "Context") -> bool:
        """Whether all earlier tickets are over; if not, `context` is told when they are."""
        if ticket != self._turn:
            self._waiting[ticket] = context
        return ticket == self._turn

    def end(self, ticket: int, at_ps: int) -> None:
        """A ticket is over."""
        if ticket != self._turn:
            self._over.append(ticket)
            return
        self._turn += 1
        while self._turn in self._over:
            self._over.remove(self._turn)
            self._turn += 1
        if self._turn in self._waiting:
            self._waiting.pop(self._turn).retry(at_ps)


class Microengine:
    """An engine whose contexts all run one program, and know each other by `turns`."""

    def __init__(self, chip: Chip, program: ProgramFunction | None, handlers: Mapping[type, Handler]) -> None:
        self.chip = chip
        self.handlers = handlers
        self.turns = Turns()
        self.free_ps = 0  # when the context that executes gives way
        self.executing_ps = self.swaps = 0
        count = CONTEXT_COUNT if program is not None else 0
        self.contexts = [Context(self, program, Me(number, count)) for number in range(count) if program is not None]
        self._ready: deque[Context] = deque()

    def start(self) -> None:
        """Power on: all contexts begin, one after the other."""
        for context in self.contexts:
            self.make_ready(context)

    def make_ready(self, context: "Context") -> None:
        """A context wants to go on."""
        now_ps = self.chip.events.now_ps
        if not self._ready and self.free_ps <= now_ps:
            self._execute(context, now_ps)
            return
        context.state = READY
        if not self._ready:
            self.chip.events.schedule(self.free_ps, self._next)
        self._ready.append(context)

    def _next(self) -> None:
        self._execute(self._ready.popleft(), self.chip.events.now_ps)
        if self._ready:
            self.chip.events.schedule(self.free_ps, self._next)

    def _execute(self, context: "Context", now_ps: int) -> None:
        self.swaps += 1
        context.state = EXECUTING
        self.free_ps = context.execute(now_ps + self.chip.swap_ps)
        self.executing_ps += self.free_ps - now_ps
        context.state = SLEEP


class Context:
    """One of an engine's contexts."""

    def __init__(self, engine: Microengine, program: ProgramFunction, me: Me) -> None:
        self.engine = engine
        self.chip = engine.chip
        self.me = me
        self.state = INACTIVE
        self.held: Any = None  # what it was handed
        self._program = program
        self._live = Live()
        self._request: Any = None  # what the program has yielded
        self._answers: list[Any] = []  # since the piece of work began
        self._ticket: int | None = None

    # --- executing ---------------------------------------------------------------------------------------------------

    def execute(self, at_ps: int) -> int:
        """Run from `at_ps` until it asks for something that takes time; when that is."""
        while True:
            request = self._step()
            if request is None:
                self._end_piece(at_ps)
                continue
            at_ps += self.chip.step_ps
            self._request = request
            handler = self.engine.handlers[type(request)]
            done_ps = handler.begin(self, request, at_ps)
            if done_ps != at_ps:
                if done_ps is not None:
                    self.chip.events.schedule(done_ps, self._wake)
                return at_ps
            self._answers.append(handler.finish(self, request))

    def _step(self) -> Any:
        """The next request of the program; None: the piece of work is over."""
        generator = self._live.generator
        try:
            if generator is not None:
                return generator.send(self._answers[-1])
            generator = self._live.generator = self._program(self.me)
            request = next(generator)
            for answer in self._answers:
                request = generator.send(answer)
        except StopIteration:
            return None
        return request

    def _end_piece(self, at_ps: int) -> None:
        self._live.generator = None
        self._answers.clear()
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self.engine.turns.end(ticket, at_ps)

    # --- asleep ------------------------------------------------------------------------------------------------------

    def hand(self, value: object, at_ps: int) -> None:
        """What the context waits for; it has it at `at_ps`."""
        self.held = value
        self.chip.events.schedule(at_ps, self._wake)

    def retry(self, at_ps: int) -> None:
        """What the context waits for may be possible now."""
        done_ps = self.engine.handlers[type(self._request)].begin(self, self._request, at_ps)
        if done_ps is not None:
            self.chip.events.schedule(done_ps, self._wake)

    def take_ticket(self) -> None:
        """What the context takes now has its place in the order."""
        self._ticket = self.engine.turns.take()

    def is_turn(self) -> bool:
        """Whether what others took before is through; if not, its request is begun again then."""
        return self._ticket is None or self.engine.turns.is_turn(self._ticket, self)

    def _wake(self) -> None:
        self._answers.append(self.engine.handlers[type(self._request)].finish(self, self._request))
        self.engine.make_ready(self)

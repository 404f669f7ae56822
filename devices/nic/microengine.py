"""Microengines: contexts that take turns, and run until they ask a unit for something.

              begins                 asks a unit, or waits
    inactive --------> executing --------------------------> sleep
                           ^                                   |
                           | engine is free: swap              | answered
                           '------------- ready <--------------'

What a context does is a program (programs.py): a generator function of which each call is one piece of work. It yields
requests and gets their answers. A program is pure but for that, so that its generator need not be kept: it follows from
the answers since the piece began, and is made again from them after a snapshot.

MODEL: contexts go on in the order in which they were answered, the hardware's arbiter takes the next by number.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from devices.nic.chip import CONTEXT_COUNT, Chip
from devices.nic.polling import Poller
from devices.nic.rings import Turns
from emulator.events import PS_PER_SECOND

GIVES_WAY_PS = PS_PER_SECOND // 1000  # after that a program is taken for one that never does
INACTIVE, READY, SLEEP = "inactive", "ready", "sleep"


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
    is_seen: bool = False  # outside the chip, when it is done
    gives_way: bool = True  # the context sleeps until it is done
    seen_after: Callable[[Chip], int] | None = None  # it may be seen so many ps after it has begun; None: never


def unseen_ps(chip: Chip, handlers: Mapping[type, Handler]) -> int:
    """How long nobody outside sees what a context does that goes on now, and can ask for these.

    It takes a swap and a step. What it puts into a ring is seen when the context that gets it has gone on.
    """
    after_ps = [handler.seen_after(chip) for handler in handlers.values() if handler.seen_after is not None]
    return chip.swap_ps + chip.step_ps + min([*after_ps, 2 * chip.scratch.latency_ps + chip.unseen_ps])


class Live:
    """The generator of a context, which follows from its program and answers: a snapshot leaves it alone."""

    def __init__(self) -> None:
        self.generator: Program | None = None
        self.step = 0  # of its context, up to which it has come


class Microengine:
    """An engine whose contexts all run one program, or none."""

    def __init__(self, chip: Chip, program: ProgramFunction | None, handlers: Mapping[type, Handler]) -> None:
        self.free_ps = 0  # when the context that executes gives way
        self.ready: deque[Context] = deque()
        count = CONTEXT_COUNT if program is not None else 0
        self.contexts = [
            Context(self, chip, program, handlers, Me(number, count)) for number in range(count) if program is not None
        ]
        self._unseen_ps = unseen_ps(chip, handlers)
        self._events = chip.events
        self._start_ps = chip.swap_ps  # so that no work is begun while the machine is still being built

    def start(self) -> None:
        """Power on: soon all contexts begin, one after the other."""
        self.free_ps = self._events.now_ps + self._start_ps
        for context in self.contexts:
            self.make_ready(context)

    def make_ready(self, context: "Context") -> None:
        """A context wants to go on, when the engine is free and those before it have had their turn."""
        context.state, context.ready_ps = READY, self._events.now_ps
        if not self.ready:
            self._events.schedule(max(self.free_ps, self._events.now_ps), self._next, unseen_ps=self._unseen_ps)
        self.ready.append(context)

    def _next(self) -> None:
        context, now_ps = self.ready.popleft(), self._events.now_ps
        context.waiting_ps += now_ps - context.ready_ps
        context.execute(now_ps)
        if self.ready:
            self._events.schedule(self.free_ps, self._next, unseen_ps=self._unseen_ps)


class Context:
    """One of an engine's contexts."""

    WIRED = ("_handlers",)

    def __init__(
        self, engine: Microengine, chip: Chip, program: ProgramFunction, handlers: Mapping[type, Handler], me: Me
    ) -> None:
        self.engine = engine
        self.chip = chip
        self.me = me
        self.state = INACTIVE
        self.ready_ps = 0  # since when, if it is
        self.swaps = self.executing_ps = self.waiting_ps = 0  # waiting: ready, for the engine
        self.poller: Poller | None = None  # if it has ever polled
        self.held: Any = None  # what it was handed
        self.request: Any = None  # what the program has yielded
        self.answered_ps: int | None = 0  # when that is done; None: others say
        self.program = program
        self._handlers = handlers
        self._unseen_ps = unseen_ps(chip, handlers)
        self._events = chip.events
        self._live = Live()
        self._answers: list[Any] = []  # since the piece of work began
        self._step = 0  # answers ever
        self._turns: Turns | None = None  # of where this piece of work comes from, and its place among them
        self._ticket = 0

    @property
    def name(self) -> str:
        """Its program's."""
        return self.program.__name__

    # --- executing ---------------------------------------------------------------------------------------------------

    def execute(self, now_ps: int) -> None:
        """Swap in, and run until it asks for something that takes time."""
        live, answers, chip = self._live, self._answers, self.chip
        at_ps = now_ps + chip.swap_ps
        while True:
            try:
                if live.generator is not None and live.step == self._step - 1:
                    live.step = self._step
                    request = live.generator.send(answers[-1])
                else:
                    request = self._make_generator()
            except StopIteration:
                if not answers or at_ps - now_ps > GIVES_WAY_PS:
                    raise RuntimeError(f"program {self.name!r} of a microengine ends without giving way") from None
                self._end_piece(at_ps)
                continue
            self.request = request
            handler = self._handlers.get(type(request))
            if handler is None:
                raise RuntimeError(f"program {self.name!r} of a microengine yielded {request!r}")
            begin, finish, is_seen, gives_way, _ = handler
            at_ps += chip.step_ps
            self.answered_ps = None  # it may be handed something at once
            done_ps = begin(self, request, at_ps)
            if done_ps is None or (done_ps != at_ps and gives_way):
                break
            at_ps = done_ps
            answers.append(finish(self, request))
            self._step += 1
        self.state = SLEEP
        self.swaps += 1
        self.executing_ps += at_ps - now_ps
        self.engine.free_ps = at_ps
        if done_ps is not None:
            self.answered_ps = done_ps
            self._events.schedule(done_ps, self._wake, unseen_ps=0 if is_seen else self._unseen_ps)

    def _make_generator(self) -> Any:
        """Begin a piece of work, or get to where the answers lead; the request after that."""
        generator = self._live.generator = self.program(self.me)
        self._live.step = self._step
        request = next(generator)
        for answer in self._answers:
            request = generator.send(answer)
        return request

    def _end_piece(self, at_ps: int) -> None:
        self._live.generator = self.request = None
        self._answers.clear()
        self._end_turn(at_ps)

    # --- asleep ------------------------------------------------------------------------------------------------------

    def hand(self, value: object, at_ps: int) -> None:
        """What the context waits for; it has it at `at_ps`."""
        self.held, self.answered_ps = value, at_ps
        self._events.schedule(at_ps, self._wake, unseen_ps=self._unseen_ps)

    def retry(self, at_ps: int) -> None:
        """What the context waits for may be possible now."""
        begin, _, is_seen, _, _ = self._handlers[type(self.request)]
        done_ps = begin(self, self.request, at_ps)
        if done_ps is not None:
            self.answered_ps = done_ps
            self._events.schedule(done_ps, self._wake, unseen_ps=0 if is_seen else self._unseen_ps)

    def take_turn(self, turns: Turns, at_ps: int) -> None:
        """What the context is handed has its place in an order. The order of what it was handed before ends."""
        self._end_turn(at_ps)
        self._turns, self._ticket = turns, turns.take()

    def is_turn(self) -> bool:
        """Whether what others were handed before is through; if not, its request is begun again then."""
        return self._turns is None or self._turns.is_turn(self._ticket, self)

    def _end_turn(self, at_ps: int) -> None:
        if self._turns is not None:
            turns, self._turns = self._turns, None
            turns.end(self._ticket, at_ps)

    def _wake(self) -> None:
        request, engine, now_ps = self.request, self.engine, self._events.now_ps
        self._answers.append(self._handlers[type(request)].finish(self, request))
        self._step += 1
        if engine.ready or engine.free_ps > now_ps:
            engine.make_ready(self)
        else:
            self.execute(now_ps)

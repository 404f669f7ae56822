"""Makes a failing case as small as it gets: fewer instructions and prefixes, the mode's first registers."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.fuzz.instruction_cases import PREFIXES, Case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with one thing less."""
    for i in range(len(case.code)):
        if len(case.code) > 1:
            yield replace(case, code=case.code[:i] + case.code[i + 1 :])
    for i, part in enumerate(case.code):
        if part[0] in PREFIXES and len(part) > 1:
            yield replace(case, code=[*case.code[:i], part[1:], *case.code[i + 1 :]])
    for name in case.registers:
        yield replace(case, registers={key: value for key, value in case.registers.items() if key != name})
    for at in case.memory:
        yield replace(case, memory={key: data for key, data in case.memory.items() if key != at})


def minimise(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case found that still fails, by taking one thing away at a time."""
    while True:
        smaller = next((one for one in _smaller(case) if fails(one)), None)
        if smaller is None:
            return case
        case = smaller

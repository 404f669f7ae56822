"""How exactly time is computed; `core_timing.py` says what each fidelity has."""

from typing import Literal, get_args

Fidelity = Literal["flat", "fast", "detailed"]
FIDELITIES: tuple[Fidelity, ...] = get_args(Fidelity)
DEFAULT_FIDELITY: Fidelity = "fast"

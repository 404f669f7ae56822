"""How a sidecore waits for requests; `service.py` does it."""

from typing import Literal, get_args

Poll = Literal["spin", "mwait"]
POLLS: tuple[Poll, ...] = get_args(Poll)

"""Which core and package a pCPU is."""

import pytest

from emulator.errors import ConfigError
from emulator.timing.topology import Place, places_of
from tests.emulator.timing.hierarchy_rig import tiny_profile


def test_first_threads_of_all_cores_come_before_second_ones() -> None:
    assert places_of(tiny_profile(), 8) == [
        Place(0, 0, 0), Place(0, 1, 0), Place(1, 2, 0), Place(1, 3, 0),
        Place(0, 0, 1), Place(0, 1, 1), Place(1, 2, 1), Place(1, 3, 1),
    ]  # fmt: skip


def test_a_machine_has_no_more_pcpus_than_its_profile() -> None:
    with pytest.raises(ConfigError, match="9 pCPUs are more than the 8 of profile haswell"):
        places_of(tiny_profile(), 9)

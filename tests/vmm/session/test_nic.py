"""Claims about what specs say of a network card and its interfaces, before anything is built."""

import pytest

from emulator.errors import ConfigError
from vmm.session.nic import check_nic, interrupt_core_of, signal_of, with_macs
from vmm.session.spec import GuestSpec, HostSpec

VIF = GuestSpec(has_vif=True)


def test_an_address_has_the_number_of_the_host_and_of_the_guest() -> None:
    given = GuestSpec(has_vif=True, mac="02:00:00:00:00:AA")
    specs = with_macs([VIF, GuestSpec(), VIF, given], 3)
    assert [spec.mac for spec in specs] == ["02:5c:00:00:03:00", None, "02:5c:00:00:03:02", "02:00:00:00:00:AA"]


def test_two_guests_of_a_host_have_different_addresses() -> None:
    given = GuestSpec(has_vif=True, mac="02:5C:00:00:00:00")
    with pytest.raises(ConfigError, match="two guests have --mac 02:5C:00:00:00:00"):
        with_macs([VIF, given], 0)


def test_guests_without_a_number_in_an_address_need_one_that_is_given() -> None:
    with pytest.raises(ConfigError, match="only 256 hosts"):
        with_macs([VIF], 256)


def test_the_card_has_64_interfaces() -> None:
    check_nic(HostSpec(has_nic=True), [VIF] * 64, 1)
    with pytest.raises(ConfigError, match="65 guests with a VIF are too many"):
        check_nic(HostSpec(has_nic=True), [VIF] * 65, 1)


def test_signals_come_from_the_sidecore_where_there_is_one() -> None:
    assert signal_of(HostSpec(has_nic=True)) == "interrupt"
    assert signal_of(HostSpec(has_nic=True, sidecore_count=1)) == "sidecore"
    assert signal_of(HostSpec(has_nic=True, sidecore_count=1, nic_signal="msix")) == "msix"


def test_interrupts_go_to_one_core_or_to_all_in_turn() -> None:
    assert interrupt_core_of(HostSpec()) == 0
    assert interrupt_core_of(HostSpec(nic_interrupt_core="2")) == 2
    assert interrupt_core_of(HostSpec(nic_interrupt_core="round-robin")) is None

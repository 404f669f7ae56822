"""The ABI of a VIF: guests, the device and the VMM mean the same."""

import re

from devices.nic import vif_function, vif_page
from guest_images.kernels import LIBRARY
from vmm.nic import backend
from vmm.nic import hypercalls as management

DEFINE = re.compile(r"#define VIF_(\w+) (0x[0-9a-f]+|\d+)\b")
PAGE_NAMES = {
    "PENDING_AT": "PENDING",
    "MASKED_AT": "MASKED",
    "RECEIVED_AT": "RECEIVED",
    "NOTIFY_WANTED_AT": "NOTIFY_WANTED",
    "REQUESTS_AT": "REQUESTS",
    "CHANGES_AT": "CHANGES",
    "SEND_AT": "SEND_RING",
    "RECEIVE_AT": "RECEIVE_RING",
    "DESCRIPTORS": "RING_COUNT",
    "DESCRIPTOR_BYTES": "DESCRIPTOR_BYTES",
    "FRAME_LEAST": "FRAME_MIN_BYTES",
    "FRAME_MOST": "FRAME_MAX_BYTES",
    "FREE": "FREE",
    "OWNED": "OWNED",
    "DONE": "DONE",
    "ERROR": "ERROR",
    "ERROR_ADDRESS": "BAD_ADDRESS",
    "ERROR_LENGTH": "BAD_LENGTH",
}
FUNCTION_NAMES = {
    "IDENTIFICATION": "IDENTIFICATION",
    "IDENTIFICATION_VALUE": "IDENTIFICATION_VALUE",
    "NUMBER": "NUMBER",
    "MAC_LOW": "MAC",
    "PAGE": "PAGE",
    "CONTROL": "COMMAND",
    "UPCALL": "UPCALL",
    "SENT": "COUNTERS",
    "NOTIFY": "NOTIFY",
    "DETACH": "DETACH",
    "ATTACH": "ATTACH",
    "IS_DETACHED": "DETACHED",
    "IS_ATTACHED": "ATTACHED",
    "IS_REFUSED": "REFUSED",
    "IS_GONE": "NO_VIF",
}
CALLS = {
    "CALL_CREATE": management.CALL_VIF_CREATE,
    "CALL_DESTROY": management.CALL_VIF_DESTROY,
    "CALL_NOTIFY": backend.CALL_NOTIFY,
    "CALL_FETCH": backend.CALL_FETCH,
    "CALL_DELIVER": backend.CALL_DELIVER,
    "CALL_ADDRESS": backend.CALL_ADDRESS,
}
COUNTERS = ("SENT", "RECEIVED", "SEND_ERRORS", "RECEIVE_ERRORS", "RECEIVE_DROPS", "SIGNALS")


def defines() -> dict[str, int]:
    return {name: int(value, 0) for name, value in DEFINE.findall((LIBRARY / "vif.h").read_text())}


def test_header_and_device_have_the_same_page() -> None:
    numbers = defines()
    assert {name: numbers[name] for name in PAGE_NAMES} == {
        name: getattr(vif_page, theirs) for name, theirs in PAGE_NAMES.items()
    }


def test_header_and_device_have_the_same_registers() -> None:
    numbers = defines()
    assert {name: numbers[name] for name in FUNCTION_NAMES} == {
        name: getattr(vif_function, theirs) for name, theirs in FUNCTION_NAMES.items()
    }
    assert [numbers[name] for name in COUNTERS] == [vif_function.COUNTERS + 4 * i for i in range(len(COUNTERS))]
    assert numbers["MAC_HIGH"] == vif_function.MAC + 4
    assert numbers["PAGE_BYTES"] == vif_function.REGION_BYTES
    assert numbers["UPCALL_MSI"] not in vif_function.UPCALL_VECTORS
    assert numbers["UPCALL_LEAST"] == vif_function.UPCALL_VECTORS.start
    ids = {offset: value for offset, _, value, _ in vif_function.CONFIGURATION}
    assert (numbers["PCI_VENDOR"], numbers["PCI_DEVICE"]) == (ids[0], ids[2])


def test_every_number_of_the_header_is_compared() -> None:
    compared = {*PAGE_NAMES, *FUNCTION_NAMES, *COUNTERS, "MAC_HIGH", "PAGE_BYTES", "UPCALL_MSI", "UPCALL_LEAST"}
    assert set(defines()) == compared | set(CALLS) | {"PCI_VENDOR", "PCI_DEVICE"}


def test_header_and_vmm_have_the_same_hypercalls() -> None:
    numbers = defines()
    assert {name: numbers[name] for name in CALLS} == CALLS

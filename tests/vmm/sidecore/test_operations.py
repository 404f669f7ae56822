"""Adding an operation: the example of vmm/sidecore/operations.py, as a user's script has it."""

from tests.guest.hostile_guest import MEMORY_BYTES, make_image
from tests.vmm.sidecore.test_hostile import PAGE, two_domains
from vmm.outcome import End, EndKind
from vmm.sidecore import abi
from vmm.sidecore.operations import OPERATIONS, Operation

CALL = f"""
    mov eax, {abi.CALL_REGISTER}
    mov edi, {PAGE}
    mov esi, 1
    vmcall
    mov dword ptr [{PAGE + 4}], 1
    mov dword ptr [{PAGE + 8}], 100
    mov qword ptr [{PAGE + 16}], 21
    mov dword ptr [{PAGE}], {abi.POSTED}
2:  pause
    cmp dword ptr [{PAGE}], {abi.POSTED}
    je 2b
    mov al, [{PAGE + 40}]
    out 0xf4, al
    jmp .
"""


def test_an_operation_is_added_to_one_host() -> None:
    double = Operation("double", lambda worker, arguments: abi.Answer(abi.OK, (2 * arguments[0], 0, 0)))
    hypervisor = two_domains(make_image(CALL), "shadow", {**OPERATIONS, 100: double})
    first = hypervisor.domains[0]
    hypervisor.advance(1_000_000, lambda: first.end is not None)
    assert first.end is not None
    assert first.end.value == 42
    served = hypervisor.machine.pcpus[2].clock.book().by_owner()["d0"]
    assert "sidecall double" in served
    assert first.memory_bytes == MEMORY_BYTES
    other = two_domains(make_image(CALL), "shadow")
    other.advance(1_000_000, lambda: other.domains[0].end is not None)
    assert other.domains[0].end == End(EndKind.DEBUG_EXIT, 0)  # nobody has stored a result

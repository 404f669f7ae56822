"""CPUID of the host's cores: what the engine can do, and nothing it cannot (SDM 2A, CPUID).

A table of (leaf, subleaf) -> EAX, EBX, ECX, EDX; the feature words are written as names of bits, so that the table can
be read against the manual. Leaves that are not in the table answer as the SDM says: zeros above the highest leaf.
"""

# fmt: off
FEATURES_1_EDX = {  # leaf 1, EDX
    "FPU": 0, "DE": 2, "PSE": 3, "TSC": 4, "MSR": 5, "PAE": 6, "CX8": 8, "APIC": 9, "SEP": 11, "PGE": 13, "CMOV": 15,
    "PAT": 16, "PSE36": 17, "CLFSH": 19, "MMX": 23, "FXSR": 24, "SSE": 25, "SSE2": 26,
}
FEATURES_1_ECX = {  # leaf 1, ECX
    "SSE3": 0, "MONITOR": 3, "SSSE3": 9, "CX16": 13, "SSE4.1": 19, "SSE4.2": 20, "POPCNT": 23, "TSC_DEADLINE": 24,
}
FEATURES_6_EAX = {"ARAT": 2}  # leaf 6, EAX: the timer of the local APIC never stops
FEATURES_7_EBX = {"SMEP": 7}  # leaf 7, EBX
FEATURES_EXT_EDX = {"SYSCALL": 11, "NX": 20, "LM": 29}  # leaf 0x80000001, EDX
FEATURES_EXT_ECX = {"LAHF64": 0}  # leaf 0x80000001, ECX
# fmt: on
MONITOR_LEAF, MONITOR_LINE_BYTES = 0x5, 64
MWAIT_EXTENSIONS_LISTED = 1  # leaf 5, ECX; the list that EDX has of C-states is empty: HLT saves as much
HYPERVISOR_PRESENT = 1 << 31  # leaf 1, ECX: reserved for VMMs

PHYSICAL_ADDRESS_BITS = 40  # what the engine's page walks check
LINEAR_ADDRESS_BITS = 48
CLFLUSH_LINE_QUADWORDS = 8

Registers = tuple[int, int, int, int]


def feature_word(features: dict[str, int]) -> int:
    """The register of CPUID that has these bits."""
    return sum(1 << bit for bit in features.values())


def _text(text: str, length_bytes: int) -> list[int]:
    data = text.encode().ljust(length_bytes, b"\0")
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, length_bytes, 4)]


def host_leaves(brand: str) -> dict[tuple[int, int], Registers]:
    """The CPUID table of a core; `brand` (at most 47 characters) is what leaves 0x80000002 to 4 say."""
    vendor = _text("GenuineIntel", 12)
    name = _text(brand[:47], 48)
    leaves: dict[tuple[int, int], Registers] = {
        (0x0, 0): (0x7, vendor[0], vendor[2], vendor[1]),
        (0x1, 0): (0x0F64, CLFLUSH_LINE_QUADWORDS << 8, feature_word(FEATURES_1_ECX), feature_word(FEATURES_1_EDX)),
        (MONITOR_LEAF, 0): (MONITOR_LINE_BYTES, MONITOR_LINE_BYTES, MWAIT_EXTENSIONS_LISTED, 0),
        (0x6, 0): (feature_word(FEATURES_6_EAX), 0, 0, 0),
        (0x7, 0): (0, feature_word(FEATURES_7_EBX), 0, 0),
        (0x80000000, 0): (0x80000008, 0, 0, 0),
        (0x80000001, 0): (0, 0, feature_word(FEATURES_EXT_ECX), feature_word(FEATURES_EXT_EDX)),
        (0x80000007, 0): (0, 0, 0, 1 << 8),  # invariant TSC: it counts core cycles, and those never change rate
        (0x80000008, 0): (LINEAR_ADDRESS_BITS << 8 | PHYSICAL_ADDRESS_BITS, 0, 0, 0),
    }
    for i in range(3):
        leaves[(0x80000002 + i, 0)] = (name[4 * i], name[4 * i + 1], name[4 * i + 2], name[4 * i + 3])
    return leaves


def look_up(leaves: dict[tuple[int, int], Registers], leaf: int, subleaf: int) -> Registers:
    """The answer of `leaves` for a leaf and subleaf; MODEL: zeros where Intel repeats the highest basic leaf."""
    return leaves.get((leaf, subleaf)) or leaves.get((leaf, 0) if leaf != 7 else (leaf, subleaf)) or (0, 0, 0, 0)


def with_apic(registers: Registers, apic_id: int, *, is_enabled: bool) -> Registers:
    """Leaf 1 of the CPU with this APIC ID; the APIC's bit follows IA32_APIC_BASE."""
    eax, ebx, ecx, edx = registers
    return (eax, ebx | apic_id << 24, ecx, edx if is_enabled else edx & ~(1 << FEATURES_1_EDX["APIC"]))

"""What was published of the machines that profiles describe, and can be measured from inside a guest: one table.

`sidecore profiles check` compares what a guest measures with these. They are not read from the profiles: somebody who
changes a profile, or a model, sees here what became of the numbers it was made from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Quantity = Literal[
    "CPUID round trip", "VMCALL round trip", "L1 latency", "L2 latency", "L3 latency", "DRAM latency", "DTLB reach",
    "second-level TLB reach",
]  # fmt: skip

VMLATENCY = "vmlatency (github.com/yulyugin/vmlatency), minimum"
ATC = "Agesen and others, USENIX ATC 2012, table 1"
BUGNION = "Bugnion, Nieh, Tsafrir, Hardware and Software Support for Virtualization, table 4.4"
PUBLISHED = "published measurement; which publication was not recorded"
MANUAL = "Intel Optimization Reference Manual"
SEVEN_CPU = "7-cpu.com"
MOLKA = "Molka and others, PACT 2009"

TOLERANCE_PERCENT: Mapping[str, int] = MappingProxyType({"round trip": 5, "latency": 10, "reach": 10})


@dataclass(frozen=True)
class Reference:
    """One published value; `confidence` is that of the profiles: exact, secondary, recalled."""

    profile: str
    quantity: Quantity
    value: int
    source: str
    confidence: str

    @property
    def unit(self) -> str:
        """Cycles, but for a reach: how many pages of 4 KiB a TLB translates at once."""
        return "pages" if self.quantity.endswith("reach") else "cycles"

    @property
    def tolerance_percent(self) -> int:
        """How far a measurement may be off."""
        return next(percent for kind, percent in TOLERANCE_PERCENT.items() if self.quantity.endswith(kind))


# fmt: off
REFERENCES: tuple[Reference, ...] = (
    Reference("netburst-2006", "VMCALL round trip", 3963, f"{ATC}: Prescott", "exact"),
    Reference("netburst-2006", "CPUID round trip", 3932, f"{BUGNION}: VMRESUME, CPUID exit", "recalled"),
    Reference("netburst-2006", "L1 latency", 4, PUBLISHED, "secondary"),
    Reference("netburst-2006", "L2 latency", 27, PUBLISHED, "secondary"),
    Reference("netburst-2006", "DRAM latency", 405, PUBLISHED, "secondary"),
    Reference("netburst-2006", "DTLB reach", 64, "CPUID descriptor 0x5B", "exact"),

    Reference("xeon-2.8-ht-2006", "VMCALL round trip", 3963, f"{ATC}: Prescott", "exact"),
    Reference("xeon-2.8-ht-2006", "CPUID round trip", 3932, f"{BUGNION}: VMRESUME, CPUID exit", "recalled"),
    Reference("xeon-2.8-ht-2006", "L1 latency", 4, PUBLISHED, "secondary"),
    Reference("xeon-2.8-ht-2006", "L2 latency", 27, PUBLISHED, "secondary"),
    Reference("xeon-2.8-ht-2006", "DTLB reach", 64, "CPUID descriptor 0x5B", "exact"),

    Reference("core2-2006", "VMCALL round trip", 1579, f"{ATC}: Merom", "exact"),
    Reference("core2-2006", "CPUID round trip", 1681, f"{VMLATENCY}: Core 2 T7400", "exact"),
    Reference("core2-2006", "L1 latency", 3, f"{MANUAL}, Core microarchitecture", "exact"),
    Reference("core2-2006", "L2 latency", 14, f"{MANUAL}, Core microarchitecture", "exact"),
    Reference("core2-2006", "DRAM latency", 380, PUBLISHED, "secondary"),
    Reference("core2-2006", "DTLB reach", 16, f"{MANUAL}, Core microarchitecture: DTLB0", "exact"),
    Reference("core2-2006", "second-level TLB reach", 256, f"{MANUAL}, Core microarchitecture: DTLB1", "exact"),

    Reference("nehalem", "VMCALL round trip", 1009, f"{ATC}: Nehalem", "exact"),
    Reference("nehalem", "CPUID round trip", 933, f"{VMLATENCY}: Core i5-760", "exact"),
    Reference("nehalem", "L1 latency", 4, MOLKA, "recalled"),
    Reference("nehalem", "L2 latency", 10, MOLKA, "recalled"),
    Reference("nehalem", "L3 latency", 38, MOLKA, "recalled"),
    Reference("nehalem", "DRAM latency", 182, f"{MOLKA}: 65 ns, at 2.8 GHz", "recalled"),
    Reference("nehalem", "DTLB reach", 64, f"{MANUAL}, Nehalem", "recalled"),
    Reference("nehalem", "second-level TLB reach", 512, f"{MANUAL}, Nehalem", "recalled"),

    Reference("sandybridge", "VMCALL round trip", 784, f"{ATC}: Sandy Bridge", "exact"),
    Reference("sandybridge", "CPUID round trip", 785, f"{VMLATENCY}: Sandy Bridge", "exact"),
    Reference("sandybridge", "L1 latency", 4, f"{MANUAL}, Sandy Bridge", "recalled"),
    Reference("sandybridge", "L2 latency", 12, f"{MANUAL}, Sandy Bridge", "recalled"),
    Reference("sandybridge", "L3 latency", 28, SEVEN_CPU, "recalled"),
    Reference("sandybridge", "DRAM latency", 195, f"{SEVEN_CPU}: 28 cycles + 49 ns", "recalled"),
    Reference("sandybridge", "DTLB reach", 64, f"{MANUAL}, Sandy Bridge", "recalled"),
    Reference("sandybridge", "second-level TLB reach", 512, f"{MANUAL}, Sandy Bridge", "recalled"),

    Reference("haswell", "CPUID round trip", 530, f"{VMLATENCY}: Core i7-4770", "exact"),
    Reference("haswell", "L1 latency", 4, PUBLISHED, "secondary"),
    Reference("haswell", "L2 latency", 12, PUBLISHED, "secondary"),
    Reference("haswell", "L3 latency", 44, PUBLISHED, "secondary"),
    Reference("haswell", "DRAM latency", 185, PUBLISHED, "secondary"),
    Reference("haswell", "DTLB reach", 64, f"{MANUAL}, Haswell", "exact"),
    Reference("haswell", "second-level TLB reach", 1024, f"{MANUAL}, Haswell", "exact"),

    Reference("skylake", "CPUID round trip", 608, f"{VMLATENCY}: Core i7-6700K", "exact"),
    Reference("skylake", "L1 latency", 4, SEVEN_CPU, "secondary"),
    Reference("skylake", "L2 latency", 12, SEVEN_CPU, "secondary"),
    Reference("skylake", "L3 latency", 42, SEVEN_CPU, "secondary"),
    Reference("skylake", "DRAM latency", 246, f"{SEVEN_CPU}: 42 cycles + 51 ns", "secondary"),
    Reference("skylake", "DTLB reach", 64, f"{MANUAL}, Skylake", "recalled"),
    Reference("skylake", "second-level TLB reach", 1536, f"{MANUAL}, Skylake", "recalled"),

    Reference("cascadelake", "CPUID round trip", 439, f"{VMLATENCY}: Xeon Gold 6252N", "exact"),
    Reference("cascadelake", "L1 latency", 4, f"{MANUAL}, Skylake server", "recalled"),
    Reference("cascadelake", "L2 latency", 14, f"{MANUAL}, Skylake server", "recalled"),
    Reference("cascadelake", "DTLB reach", 64, f"{MANUAL}, Skylake server", "recalled"),
    Reference("cascadelake", "second-level TLB reach", 1536, f"{MANUAL}, Skylake server", "recalled"),
)
# fmt: on


def references_of(profile: str) -> tuple[Reference, ...]:
    """What was published of the machine called `profile`, in the order of the table."""
    return tuple(row for row in REFERENCES if row.profile == profile)

"""Builds `emulator.engine._engine`: the C files under this folder, by cffi in API mode.

Unicorn is linked in (see emulator/unicorn_build). libcapstone is not: `emulator.engine` loads the library of its wheel
globally before it imports the extension, so the extension works wherever the wheel is installed.
"""

import importlib.util
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
CALLBACKS = """
extern "Python" int python_on_exit(void *python);
extern "Python" void python_on_instruction(void *python);
extern "Python" int python_on_platform(void *python, int operation, uint64_t number, uint64_t argument,
                                       uint64_t *values);
"""
FUNCTIONS = """
typedef struct sc_cpu sc_cpu;
typedef struct sc_code_map sc_code_map;
sc_code_map *sc_code_open(uint64_t pages);
void sc_code_close(sc_code_map *map);
uint8_t *sc_code_counts(sc_code_map *map);
void sc_code_written(sc_code_map *map, uint64_t hpa, uint64_t bytes);
sc_cpu *sc_open(uint8_t *memory, const uint64_t bounds[3], sc_code_map *code, void *python, const char **problem);
uint64_t sc_cached_bytes(const sc_cpu *cpu);
bool sc_rest(sc_cpu *cpu);
void sc_close(sc_cpu *cpu);
sc_cpu_shared *sc_shared(sc_cpu *cpu);
int sc_run(sc_cpu *cpu, uint64_t deadline_cycles);
uint64_t sc_read_linear(sc_cpu *cpu, uint64_t linear, uint8_t *ret, uint64_t bytes);
uint64_t sc_code_at_rip(sc_cpu *cpu, uint8_t *ret);
int sc_rdmsr(sc_cpu *cpu, uint32_t index, uint64_t *ret);
int sc_wrmsr(sc_cpu *cpu, uint32_t index, uint64_t value);
bool sc_watch_instructions(sc_cpu *cpu, const uint64_t *spans, uint64_t count);
bool sc_watch_places(sc_cpu *cpu, const uint64_t *places, uint64_t count, const uint8_t *known);
uint64_t sc_noted_accesses(sc_cpu *cpu, uint64_t ret[65]);
void sc_keep_edits(sc_cpu *cpu);
void sc_invept(sc_cpu *cpu);
void sc_set_timing(sc_cpu *cpu, const sc_timing *t);
void sc_set_core(sc_cpu *cpu, int64_t core);
uint64_t sc_saved_bytes(const sc_cpu *cpu);
void sc_save(const sc_cpu *cpu, uint8_t *ret);
bool sc_restore(sc_cpu *cpu, const uint8_t *bytes, uint64_t count);
void sc_walk_tables(const sc_table_memory *memory, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
                    uint64_t linear, unsigned access, sc_table_walk *ret);
"""
C_FLAGS = ["-std=gnu11", "-O2", "-flto", "-Wall", "-Wextra", "-fvisibility=hidden", "-Wno-missing-field-initializers"]
if os.environ.get("SIDECORE_STRICT"):  # our own builds; a user's compiler may warn of something new
    C_FLAGS += ["-Werror"]
SOURCES = sorted(path for path in HERE.rglob("*.c") if path.name != "_engine.c")
HEADERS = (
    "engine.h", "shared.h", "tables.h", "arch/arch.h", "time/time.h", "time/timing.h", "unicorn/port.h",
    "unicorn/state.h",
)  # fmt: skip


def _defines(module: Mapping[str, object], prefix: str = "") -> str:
    """The constants of a module as C defines; a set of numbers becomes a mask."""
    lines = []
    for name, value in module.items():
        if isinstance(value, frozenset):
            value = sum(1 << number for number in value)
        if name.isupper() and isinstance(value, int):
            lines.append(f"#define {prefix}{name} {value:#x}{'ull' if value >> 31 else ''}\n")
    return "".join(lines)


def _tables() -> tuple[dict[str, str], dict[str, int]]:
    """Headers of C defines made from tables in Python, and the lengths of the arrays in shared.h by name."""
    sys.path.insert(0, str(PROJECT))
    try:
        from emulator import x86
        from emulator.timing import instruction_classes
        from emulator.timing.kernels import layout
        from emulator.vmx import controls, exit_reasons, fields, guest_state, interruption
    finally:
        sys.path.remove(str(PROJECT))
    vmx = fields.c_defines() + exit_reasons.c_defines() + controls.c_defines()
    walks = {name: getattr(layout, name) for name in ("CODE_WALK", "DATA_WALK", "PAGE_IS_LARGE", "PAGE_IS_GLOBAL")}
    abi = runpy.run_path(str(HERE / "abi.py"))
    headers = {
        "vmx.h": vmx + _defines(vars(interruption), "EVENT_") + _defines(vars(guest_state)),
        "x86.h": _defines(vars(x86)),
        "time.h": instruction_classes.c_defines() + _defines(walks),
        "abi.h": abi["c_defines"](),
    }
    lengths = {name: abi[name] for name in ("WATCHED_MAX", "RECENT_MAX", "TABLE_PIECES_MAX")}
    lengths["VMCS_SLOT_COUNT"] = fields.SLOT_COUNT
    return {f"generated/{name}": text for name, text in headers.items()}, lengths


def _wheel_include(package: str) -> str:
    """The folder of C headers that a binary wheel ships, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{package} is not installed")
    return str(Path(spec.origin).parent / "include")


def _unicorn() -> Path:
    """The folder of our own Unicorn: libunicorn.a and include/."""
    sys.path.insert(0, str(PROJECT))
    try:
        from emulator.unicorn_build.library import build
    finally:
        sys.path.remove(str(PROJECT))
    return build()


def make() -> FFI:
    """The cffi builder that setuptools runs (see setup.py)."""
    headers, lengths = _tables()
    unicorn = _unicorn()
    library = str(unicorn / "libunicorn.a")
    (HERE / "generated").mkdir(exist_ok=True)
    for name, defines in headers.items():
        text = f"/* Generated by build.py. */\n{defines}"
        if not (HERE / name).exists() or (HERE / name).read_text() != text:
            (HERE / name).write_text(text)
    shared = (HERE / "shared.h").read_text() + (HERE / "tables.h").read_text()
    for name, length in lengths.items():
        shared = shared.replace(name, str(length))
    builder = FFI()
    builder.cdef(shared + (HERE / "time/timing.h").read_text() + FUNCTIONS + CALLBACKS)
    builder.set_source(
        "emulator.engine._engine",
        '#include "engine.h"\n'
        + FUNCTIONS.replace("typedef struct sc_cpu sc_cpu;", "").replace("typedef struct sc_code_map sc_code_map;", "")
        + "static int python_on_exit(void *);\n"
        "static void python_on_instruction(void *);\n"
        "static int python_on_platform(void *, int, uint64_t, uint64_t, uint64_t *);\n"
        "__attribute__((constructor)) static void connect(void) {\n"
        "    sc_exit_callback = python_on_exit;\n"
        "    sc_platform_callback = python_on_platform;\n"
        "    sc_instruction_callback = python_on_instruction;\n"
        "}\n",
        sources=[str(path.relative_to(PROJECT)) for path in SOURCES],
        depends=[str((HERE / name).relative_to(PROJECT)) for name in (*HEADERS, *headers)] + [library],
        include_dirs=[str(unicorn / "include"), _wheel_include("capstone"), str(HERE)],
        extra_objects=[library],
        extra_compile_args=C_FLAGS,
        extra_link_args=["-flto", "-O2", "-Wl,--exclude-libs,ALL"],  # the wheel's Unicorn may be loaded beside ours
    )
    return builder


ffibuilder = make()

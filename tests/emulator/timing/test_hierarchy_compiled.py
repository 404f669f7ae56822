"""Compiled kernels and plain Python do the same; compiling is announced, cached, and no duty."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

TRAFFIC = """
import hashlib, random
from emulator.timing.hierarchy import MemoryHierarchy
from tests.emulator.timing.hierarchy_rig import LINE, SHARED_L2, tiny_hierarchy

generator, results = random.Random(7), []
for overrides in ((), SHARED_L2):
    hierarchy = tiny_hierarchy(*overrides, "tlb.paging_structure_entries=2", pcpu_count=8)
    for step in range(4000):
        pcpu, hpa = generator.randrange(8), generator.randrange(64) * LINE * 23 + generator.randrange(LINE)
        size_bytes = min(generator.choice([1, 8, 64]), 4096 - hpa % 4096)
        kind = generator.randrange(3)
        if kind == 0:
            taken = hierarchy.fetch(pcpu, hpa, size_bytes, step)
        elif kind == 1:
            taken = hierarchy.data(pcpu, hpa, size_bytes, generator.random() < 0.5, step)
        else:
            taken = hierarchy.access(pcpu, hpa, size_bytes, generator.random() < 0.5, step)
        if taken < 0:
            references = [generator.randrange(1 << 14) & ~7 for _ in range(generator.choice([3, 4, 24]))]
            taken = hierarchy.walk(
                pcpu, hpa, hpa, references, step, is_code=kind == 0, is_large=hpa > 1 << 16, is_global=hpa % 3 == 0
            )
        if step % 97 == 0:
            hierarchy.invalidate_translations(pcpu, keep_global=step % 2 == 0)
            hierarchy.invalidate_page(pcpu, hpa)
            taken += hierarchy.drain(pcpu, step)
        results.append(taken)
    results.append(hashlib.sha256(hierarchy.state.tobytes()).hexdigest())
print(hashlib.sha256(repr(results).encode()).hexdigest())
"""


def run(code: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


def test_compiled_kernels_do_what_plain_python_does() -> None:
    assert run(TRAFFIC, NUMBA_DISABLE_JIT="0") == run(TRAFFIC, NUMBA_DISABLE_JIT="1")


# One small entry point instead of all: compiling takes a while.
ANNOUNCE = """
from emulator.timing.kernels import compiled, entry_points
entry_points.ENTRY_POINTS = {"drain": entry_points.ENTRY_POINTS["drain"]}
said = []
kernels = compiled.load_kernels(lambda: said.append("compiling"))
state = compiled.ffi.new("int64_t[]", 200)
print(said, kernels["drain"].call(state, 0, 5), kernels["drain"].address != 0)
"""


def test_compiling_is_announced_once_and_then_cached(tmp_path: Path) -> None:
    environment = {"SIDECORE_CACHE": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    assert run(ANNOUNCE, **environment) == "['compiling'] 0 True\n"
    assert len(list(tmp_path.glob("numba/*/*/*.nbc"))) == 1
    assert run(ANNOUNCE, **environment) == "[] 0 True\n"


def test_numbas_own_setting_of_the_folder_counts(tmp_path: Path) -> None:
    run(ANNOUNCE, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_DISABLE_JIT="0")
    assert len(list(tmp_path.glob("*/*/*.nbc"))) == 1


def test_without_a_cache_folder_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = {"SIDECORE_CACHE": str(tmp_path / "file"), "NUMBA_DISABLE_JIT": "0"}
    assert [run(ANNOUNCE, **environment) for _ in range(2)] == ["['compiling'] 0 True\n"] * 2


@pytest.mark.parametrize("module", ["emulator.machine", "emulator.timing.hierarchy"])
def test_numba_is_not_imported_before_it_is_needed(module: str) -> None:
    assert run(f"import sys, {module}; print('numba' in sys.modules)") == "False\n"

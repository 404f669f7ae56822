"""An engine whose raw state lies elsewhere is refused by name of what is wrong, never run.

The extension is built once more, with a shim between it and Unicorn that stands for another Unicorn: some fields of the
state lie elsewhere.
"""

import importlib.util
import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import ROOT

SHIM = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { HEADER = 40 };
static unsigned char real[1 << 20];
size_t uc_context_size(void *uc);
int __real_uc_context_save(void *uc, void *context);
int __real_uc_context_restore(void *uc, void *context);
/* MOVED="from to": the bytes [from, to) behind the first register lie 8 bytes later than they should. */
static int moved(unsigned *from, unsigned *to) {
    const char *text = getenv("MOVED");
    return text && sscanf(text, "%u %u", from, to) == 2;
}
int __wrap_uc_context_save(void *uc, unsigned char *context) {
    int error = __real_uc_context_save(uc, context);
    unsigned from, to;
    if (error || !moved(&from, &to)) return error;
    memcpy(real, context, uc_context_size(uc));
    memset(context + HEADER + from, 0, 8);
    memcpy(context + HEADER + from + 8, real + HEADER + from, to - from);
    return 0;
}
int __wrap_uc_context_restore(void *uc, unsigned char *context) {
    unsigned from, to;
    if (!moved(&from, &to)) return __real_uc_context_restore(uc, context);
    unsigned char lost[8];
    memcpy(lost, real + HEADER + to, 8);
    memcpy(real, context, uc_context_size(uc));
    memcpy(real + HEADER + from, context + HEADER + from + 8, to - from);
    memcpy(real + HEADER + to, lost, 8);
    return __real_uc_context_restore(uc, real);
}
"""
PROGRAM = """
import ctypes, importlib.util, os, sys
ctypes.CDLL(os.environ["CAPSTONE"], mode=ctypes.RTLD_GLOBAL)
spec = importlib.util.spec_from_file_location("emulator.engine._engine", os.environ["SHIMMED"])
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
from emulator.engine import Engine
from emulator.memory import HostMemory
for place in sys.argv[1:]:
    os.environ["MOVED"] = place
    try:
        Engine(HostMemory(1 << 20), None)
        print(place, "opened", sep=":")
    except RuntimeError as error:
        print(place, error, sep=":")
"""
END = 5552
# the fields moved, as bytes behind RAX; what the message names
PLACES = {
    "8 128": "registers",
    "32 40": "rip, rsp, rax",
    "128 136": "rip, rsp, rax",
    "176 180": "vm_vmcb",
    "184 208": "segment",
    "304 328": "gs base",
    "376 400": "gdt",
    "400 424": "idt",
    "424 496": "cr",
    "440 464": "cr",
    "5448 5456": "dr",
    "5504 5512": "vm_vmcb",
    "5520 5528": "intercept",
    "5528 5532": "intercept_cr",
    "5532 5536": "intercept_dr",
    "5536 5540": "intercept_exceptions",
    "5544 5552": "nested_cr3",
    f"16 {END}": "gs base",
    f"480 {END}": "vm_vmcb",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    build = runpy.run_path(str(ROOT / "emulator/engine/build.py"))
    build["ffibuilder"].emit_c_code(str(folder / "_engine.c"))
    (unicorn,) = build["ffibuilder"]._assigned_source[3]["extra_objects"]
    spec = importlib.util.find_spec("capstone")
    assert spec is not None
    assert spec.origin is not None
    capstone = Path(spec.origin).parent
    folders = [Path(unicorn).parent / "include", capstone / "include", build["HERE"], sysconfig.get_path("include")]
    command = [
        "gcc", "-shared", "-fPIC", "-w", "-O1", "-Wl,--wrap=uc_context_save,--wrap=uc_context_restore",
        *(f"-I{path}" for path in folders), "-o", str(folder / "_engine.so"), str(folder / "_engine.c"),
        str(folder / "shim.c"), *map(str, build["SOURCES"]), unicorn,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    environment = {
        **os.environ,
        "SHIMMED": str(folder / "_engine.so"),
        "CAPSTONE": str(next((capstone / "lib").glob("libcapstone.so*"))),
        "PYTHONPATH": str(ROOT),
    }
    program = [sys.executable, "-c", PROGRAM, "nothing", *PLACES, "nothing again"]
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    return dict(line.split(":", 1) for line in done.stdout.splitlines())


def test_the_engine_as_it_is_opens_behind_the_shim(outcomes: dict[str, str]) -> None:
    assert outcomes["nothing"] == outcomes["nothing again"] == "opened"


@pytest.mark.parametrize("place", PLACES)
def test_a_state_with_another_layout_is_refused(place: str, outcomes: dict[str, str]) -> None:
    what = PLACES[place]
    message = f"the CPU engine is not the one this version was made for ({what}); build it anew: make clean setup"
    assert outcomes[place] == message

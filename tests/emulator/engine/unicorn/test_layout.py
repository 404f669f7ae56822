"""An engine whose raw state lies elsewhere is refused by name of what is wrong, never run.

A shim in front of the engine's library stands for another build of it: some fields of the state lie elsewhere.
"""

import os
import subprocess
import sys

import pytest

from tests import ROOT

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { HEADER = 40 };
static unsigned char real[1 << 20];
static void *find(const char *name) { return dlsym(RTLD_NEXT, name); }
/* MOVED="from to": the bytes [from, to) behind the first register lie 8 bytes later than they should. */
static int moved(unsigned *from, unsigned *to) {
    const char *text = getenv("MOVED");
    return text && sscanf(text, "%u %u", from, to) == 2;
}
int uc_context_save(void *uc, unsigned char *context) {
    int error = ((int (*)(void *, void *))find("uc_context_save"))(uc, context);
    unsigned from, to;
    if (error || !moved(&from, &to)) return error;
    memcpy(real, context, ((size_t (*)(void *))find("uc_context_size"))(uc));
    memset(context + HEADER + from, 0, 8);
    memcpy(context + HEADER + from + 8, real + HEADER + from, to - from);
    return 0;
}
int uc_context_restore(void *uc, unsigned char *context) {
    unsigned from, to;
    if (!moved(&from, &to)) return ((int (*)(void *, void *))find("uc_context_restore"))(uc, context);
    unsigned char lost[8];
    memcpy(lost, real + HEADER + to, 8);
    memcpy(real, context, ((size_t (*)(void *))find("uc_context_size"))(uc));
    memcpy(real + HEADER + from, context + HEADER + from + 8, to - from);
    memcpy(real + HEADER + to, lost, 8);
    return ((int (*)(void *, void *))find("uc_context_restore"))(uc, real);
}
"""
PROGRAM = """
import os, sys
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
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    environment = {**os.environ, "LD_PRELOAD": str(folder / "shim.so"), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", PROGRAM, "nothing", *PLACES, "nothing again"]
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    return dict(line.split(":", 1) for line in done.stdout.splitlines())


def test_the_engine_as_it_is_opens_behind_the_shim(outcomes: dict[str, str]) -> None:
    assert outcomes["nothing"] == outcomes["nothing again"] == "opened"


@pytest.mark.parametrize("place", PLACES)
def test_a_state_with_another_layout_is_refused(place: str, outcomes: dict[str, str]) -> None:
    what = PLACES[place]
    message = f"the CPU engine is not the one this version was made for ({what}); reinstall unicorn==2.1.4"
    assert outcomes[place] == message

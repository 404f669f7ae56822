"""How the kernels are compiled: by numba, once, into the user's cache; or not at all.

Kernels are plain functions under `@kernel`. Compiled, they become C functions whose addresses the CPU engine calls.
With NUMBA_DISABLE_JIT=1 the very same functions run as Python behind cffi callbacks of the same C types.

Machine code is kept in $NUMBA_CACHE_DIR, else in the folder `numba` of the user's cache (`emulator.user_cache`), in one
folder per version of the kernels' sources: numba itself looks only at the file of the entry point.
"""

import hashlib
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cffi import FFI
from numba import cfunc, config, njit, types

from emulator.errors import ConfigError
from emulator.user_cache import cache_directory

Function = TypeVar("Function", bound=Callable[..., Any])

ENTRY_POINTS = "emulator.timing.kernels.entry_points"
COMPILED = "compiled"  # the file that says a folder of machine code is complete

ffi = FFI()


def kernel(function: Function) -> Function:
    """Make `function` one that kernels can call. Integers only: `//` by 0 must not happen."""
    compiled: Function = njit(error_model="numpy")(function)
    return compiled


def inlined(function: Function) -> Function:
    """As `kernel`, and part of the machine code of whoever calls it: for the ways that nearly all accesses take."""
    compiled: Function = njit(error_model="numpy", forceinline=True)(function)
    return compiled


class Kernel(NamedTuple):
    """One entry point. `call` is a cffi function pointer; `owner` keeps the code behind it alive."""

    call: Any
    address: int
    owner: object


def load_kernels(on_compile: Callable[[], None] | None = None) -> dict[str, Kernel]:
    """The entry points by name. `on_compile` is called before anything is compiled: that takes half a minute."""
    if config.DISABLE_JIT:
        return _plain_kernels()
    folder = _machine_code_folder()
    if on_compile and not (folder and (folder / COMPILED).exists()) and not _compiled_kernels.cache_info().currsize:
        on_compile()
    return _compiled_kernels(folder)


@cache
def _plain_kernels() -> dict[str, Kernel]:
    kernels = {}
    for name, (function, parameters) in importlib.import_module(ENTRY_POINTS).ENTRY_POINTS.items():
        call = ffi.callback(f"int64_t({parameters})", function)
        kernels[name] = Kernel(call, int(ffi.cast("intptr_t", call)), call)
    return kernels


@cache
def _compiled_kernels(folder: Path | None) -> dict[str, Kernel]:
    kernels = {}
    users_folder = config.CACHE_DIR
    try:
        if folder:
            config.CACHE_DIR = str(folder)
        for name, (function, parameters) in importlib.import_module(ENTRY_POINTS).ENTRY_POINTS.items():
            compiled = cfunc(_signature(parameters), cache=folder is not None, error_model="numpy")(function)
            kernels[name] = Kernel(ffi.cast(f"int64_t(*)({parameters})", compiled.address), compiled.address, compiled)
    finally:
        config.CACHE_DIR = users_folder
    if folder:
        (folder / COMPILED).touch()
    return kernels


def _signature(parameters: str) -> Any:
    return types.int64(*(types.CPointer(types.int64) if "*" in text else types.int64 for text in parameters.split(",")))


def _machine_code_folder() -> Path | None:
    """Where this version's machine code is kept; None when nothing can be kept."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    try:
        root = Path(config.CACHE_DIR) if config.CACHE_DIR else cache_directory("numba")
        folder = root / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ConfigError):
        return None
    return folder

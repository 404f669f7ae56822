"""Builds the cffi extension `emulator.engine._engine`, and the stub of `sidecore`; the rest is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithStub(build_py):
    """Type checkers believe a single module only by a stub package beside it (PEP 561): the module itself is that."""

    def run(self) -> None:
        """Copy what a wheel has."""
        super().run()
        if not self.editable_mode:
            stub = Path(self.build_lib) / "sidecore-stubs" / "__init__.pyi"
            stub.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile("sidecore.py", stub)


setup(cffi_modules=["emulator/engine/build.py:ffibuilder"], cmdclass={"build_py": BuildWithStub})

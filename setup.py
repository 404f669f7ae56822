"""Builds the cffi extension `emulator.engine._engine`; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["emulator/engine/build.py:ffibuilder"])

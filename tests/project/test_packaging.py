"""Claims about what an installed sidecore has."""

import tomllib

from setuptools import find_packages

from tests import ROOT


def test_every_package_is_installed() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("emulator", "devices", "vmm", "guest_images", "benchmarks")
        for path in (ROOT / top).rglob("__init__.py")
    ]
    assert sorted(find_packages(str(ROOT), include=find["include"])) == sorted(packages)


def test_every_folder_of_python_files_is_a_package() -> None:
    folders = {
        path.parent for top in ("emulator", "devices", "vmm", "benchmarks") for path in (ROOT / top).rglob("*.py")
    }
    assert all((folder / "__init__.py").exists() for folder in folders)

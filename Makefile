# Every target does the set-up it needs first; `make help` lists them.
SHELL := /bin/sh
PYTHON ?= python3
JOBS ?= $(shell nproc)
export SIDECORE_STRICT := 1
BIN := .venv/bin
C_FILES = $(shell git ls-files 'emulator/*.c' 'emulator/*.h')
ENGINE := $(wildcard emulator/engine/*.[ch] emulator/engine/*/*.[ch]) emulator/engine/build.py emulator/engine/abi.py \
	$(wildcard emulator/vmx/*.py) emulator/x86.py emulator/timing/instruction_classes.py emulator/timing/kernels/layout.py setup.py

.PHONY: help setup run linux test test-fast fuzz soak lint bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make run        boot the default guest under the VMM, then the sidecore paper'\''s Figure 1'
	@echo 'make linux      boot Debian'\''s kernel to a shell (fetched at first); Ctrl-A X ends it'
	@echo 'make test       every test; test-fast leaves out those that boot Linux'
	@echo 'make fuzz       a million random instructions, on our CPU and on Bochs'
	@echo 'make soak       that, 100,000 frames between 16 guests, 10,000 hostile packets for gdb'
	@echo 'make lint       what CI checks besides the tests'
	@echo 'make bench      how fast the emulator is, beside QEMU'
	@echo 'make setup      only the set-up: .venv with all packages, the CPU engine compiled'
	@echo 'make clean      remove all that was made here; guest images stay in ~/.cache/sidecore'

setup: .make/engine

run: setup
	@$(BIN)/sidecore boot
	@$(BIN)/sidecore bench fig1

# Without a terminal nobody could type, and the shell would wait for ever.
linux: .make/linux
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/sidecore boot linux; \
	else $(BIN)/sidecore boot linux --until 'BusyBox shell ready'; fi

test: .make/linux
	@$(BIN)/sidecore images fetch linux-generic memtest >/dev/null
	@$(BIN)/pytest -n $(JOBS) --dist worksteal

test-fast: setup
	@$(BIN)/pytest -n $(JOBS) -m 'not slow'

# The long campaigns whole, of which `make test` runs a part.
soak: fuzz
	@SIDECORE_SOAK=1 $(BIN)/pytest -n $(JOBS) --timeout=7200 tests/guest/test_vif_soak.py \
		tests/vmm/session/debugger/gdb/test_session.py

# Another million each time SIDECORE_FUZZ_SEED says so.
fuzz: setup
	@SIDECORE_FUZZ_CASES=$${SIDECORE_FUZZ_CASES:-1000000} $(BIN)/pytest -n $(JOBS) --timeout=3600 tests/fuzz

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports --no-logo
	@$(BIN)/clang-format --dry-run -Werror $(C_FILES)

bench: .make/linux
	@$(BIN)/sidecore bench speed

clean:
	rm -rf .make .venv build dist emulator/engine/generated *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f emulator/engine/*.so emulator/engine/_engine.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the set-up itself needs, each with the Debian package that has it; installed when we may.
.make/tools:
	@mkdir -p .make
	@missing=''; \
	command -v $(PYTHON) >/dev/null || missing="$$missing python3"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	$(PYTHON) -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null \
		|| missing="$$missing python3-dev"; \
	echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || missing="$$missing gcc libc6-dev"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "sidecore: these packages are missing:$$missing; on Debian: sudo apt install$$missing" >&2; exit 1; \
		fi; \
		echo "sidecore: installing$$missing"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $$missing >/dev/null; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sidecore: Python 3.11 or newer is needed; make PYTHON=...")'
	@touch $@

# Before the packages: installing ours compiles the CPU engine, which is linked with it.
.make/unicorn: .make/tools $(wildcard emulator/unicorn_build/*.py)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m emulator.unicorn_build >.make/unicorn.log
	@mv .make/unicorn.log $@

.make/packages: pyproject.toml | .make/unicorn
	@echo 'sidecore: installing Python packages into .venv (a minute at first)'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

.make/engine: .make/packages .make/unicorn $(ENGINE)
	@echo 'sidecore: compiling the CPU engine'
	@$(BIN)/python setup.py --quiet build_ext --inplace --force >.make/engine.log 2>&1 || { cat .make/engine.log >&2; exit 1; }
	@touch $@

# Debian's kernel comes from the package lists; a fresh container has none yet.
.make/linux: .make/engine $(wildcard guest_images/*.py)
	@apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || apt-get -qq update
	@$(BIN)/sidecore images fetch >/dev/null
	@touch $@

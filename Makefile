# Two commands do everything on a fresh Debian or Ubuntu: `make demo` and `make test`. The environment is made when there is none.
#
#   make demo ARGS=--exit     options after ARGS= go to the command
#   make test                 format, lint, import contracts, types, tests: stops at the first failure
#   make lint | imports | types | tests | crash | bench

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: env demo test lint imports types tests crash bench
.NOTPARALLEL:

env: $(READY)

# made anew only when what is to be installed has changed
$(READY): setup.cfg pyproject.toml .ci/constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint .ci/constraints.txt --editable '.[test]'
	@touch $@

$(BIN)/python:
	@PYTHON="$(PYTHON)" sh .ci/make-venv $(VENV)

demo: env
	$(BIN)/meridian demo $(ARGS)

test: lint imports types tests

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

imports: env
	$(BIN)/lint-imports

types: env
	$(BIN)/mypy

# in two processes: most tests wait for another one
tests: env
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

# the whole crash suite: 50 kills of nodes and 50 of their workers over 20,000 messages; `make test` runs a bounded one
crash: env
	MERIDIAN_CRASH=full $(BIN)/pytest tests/crash $(ARGS)

bench: env
	$(BIN)/meridian bench mllp $(ARGS)

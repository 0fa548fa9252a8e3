# `make demo` and `make test` need nothing but Python 3.11 or newer: they make their own virtual environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

## Train a small network on drawn lesions for a few minutes, and say where to look.
demo: $(READY)
	$(BIN)/python -m adaflow.demo

## All tests but the slow ones.
test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

## All tests.
test-all: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m ''

## Style and types.
lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) demo

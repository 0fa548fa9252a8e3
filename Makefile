# `make demo` and `make test` need nothing but Python 3.11 or newer: they make their own virtual environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
GPU_RESULTS ?= gpu-check.json

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint kernels gpu-check bench clean

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

## Style and types; native kernels compile.
lint: $(READY) kernels
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

## Compile the native kernels and test them; those for GPUs, too, where there is an nvcc.
kernels: $(READY)
	$(BIN)/adaflow doctor --build

## On a machine with a GPU: test every operation there against the reference path, and measure; numbers in $(GPU_RESULTS).
gpu-check: $(READY) kernels
	ADAFLOW_OPS=native $(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks --device cuda --json $(GPU_RESULTS)

## Measure everything against plain torch, kornia and the reference path; numbers in bench.json.
bench: $(READY) kernels
	$(BIN)/python -m benchmarks --json bench.json

clean:
	rm -rf $(VENV) demo

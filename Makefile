# normexp: every target makes what it needs. Start with `make demo` or `make test`.
# CONSTRAINTS=constraints.txt pins what pip may install (by default the CPU build of torch is asked for there).
# JOBS=2 is how many processes run the tests.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
JOBS ?= 2
# EXAMPLE_OPTIONS='--quick' or '--data FOLDER' is handed to every example.
EXAMPLES := mlp_fashion cnn_fashion text_newsgroups tagging recommend
EXAMPLE_OPTIONS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(CONSTRAINTS)
SOURCES := pyproject.toml $(CONSTRAINTS) src/normexp/_version.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow nojit bounds lint types floors docs check coverage bench examples clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cli: $(SOURCES) | $(BIN)/python
	$(PIP) -e '.[cli]'
	@touch $@

$(VENV)/.dev: $(SOURCES) | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.cli $@

demo: $(VENV)/.cli  ## Fit on handwritten digits, print the result, write demo/report.html
	$(BIN)/normexp demo --output demo

test: $(VENV)/.dev  ## Run the whole test-suite (without the long sweeps)
	$(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.dev  ## Run the long accuracy sweeps and the large data sets
	$(BIN)/python -m pytest -m slow

nojit: $(VENV)/.dev  ## The kernels as plain Python: slow, right
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -m 'not slow' tests/kernels -q

bounds: $(VENV)/.dev  ## The kernels with Numba's bounds checking on
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$$(mktemp -d) $(BIN)/python -m pytest -m 'not slow' tests/kernels tests/ops -q

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

floors: $(VENV)/.dev  ## import-linter: what stands lower never imports what stands higher
	$(BIN)/lint-imports

docs: $(VENV)/.dev  ## Every example in the documents runs
	$(BIN)/python -m pytest -q --doctest-glob='*.md' docs README.md README.zh.md CONTRIBUTING.md

check: test lint types floors docs  ## All that CI runs

coverage: $(VENV)/.dev  ## Tests with branch coverage
	$(BIN)/python -m pytest -m 'not slow' --cov --cov-report=term

bench: $(VENV)/.dev  ## Measure the functions on arrays beside their rivals; tables in bench/results/ops.md
	$(BIN)/python bench/ops.py --output bench/results/ops.md

examples: $(VENV)/.dev  ## Train the networks of examples/ and audit them; pictures in examples/out/
	set -e; for one in $(EXAMPLES); do $(BIN)/python examples/$$one.py $(EXAMPLE_OPTIONS); done

clean:  ## Remove what was built
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

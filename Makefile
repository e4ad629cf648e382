# One environment, .venv, built once from constraints.txt; every target below uses its programs by path.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Whatever environment the caller has activated, ours is our own.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

WITHOUT_JIT := $(addprefix tests/posit/,test_kernels_as_python.py test_jit.py test_array_scalars.py test_text.py \
	test_stochastic.py::test_the_bits_are_the_recorded_ones)

.DEFAULT_GOAL := help
.PHONY: help setup demo test nojit lint exhaustive bench clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "  %-16s %s\n", $$1, $$2}'

setup: $(STAMP)  ## build .venv with the pinned dependencies and this project

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(STAMP)  ## train in posit16 beside float32 and write a report (postrain compare)
	$(BIN)/postrain compare

test: lint  ## everything CI checks: lint, types, import contracts, tests and doctests
	env -u NUMBA_CACHE_DIR $(BIN)/python -m pytest -n 2 --dist worksteal
	$(MAKE) nojit

nojit: $(STAMP)  ## the kernels as Python functions: tests that need no compiler's speed, with Numba's switched off
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(WITHOUT_JIT)

lint: $(STAMP)  ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

exhaustive: $(STAMP)  ## the long tests: every input of the small worlds
	$(BIN)/python -m tests.exhaustive.pairs
	$(BIN)/python -m tests.exhaustive.wide_pairs
	env -u NUMBA_CACHE_DIR $(BIN)/python -m pytest -n 2 --dist worksteal -m exhaustive

bench: $(STAMP)  ## speed and accuracy beside float32 (minutes)
	$(BIN)/postrain bench training
	$(BIN)/postrain bench digits
	$(BIN)/postrain bench numbers
	$(BIN)/postrain bench quire
	$(BIN)/postrain bench ga
	$(BIN)/postrain bench memory
	$(BIN)/postrain bench distributed

clean:  ## remove .venv, caches and the demo's output
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache postrain-report
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

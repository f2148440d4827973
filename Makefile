# `make demo` and `make test` each work as the first command on a machine with Python, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
RUN := OMP_NUM_THREADS=1 $(BIN)/python
SOURCES := ebm hebbian examples benchmarks tests

.DEFAULT_GOAL := help
.PHONY: help demo test slow product mutants lint format types docs examples wheel bench clean

help:  ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 10) else f"equilibrate needs Python 3.10 or later; $(PYTHON) is {v[0]}.{v[1]}. Run make PYTHON=python3.11, say.")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[examples]'
	@touch $@

$(VENV)/test: $(VENV)/base
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/dev: $(VENV)/test
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/base  ## the main job: real MNIST digits, about six minutes on two cores
	$(BIN)/python examples/mnist_anytime.py

test: $(VENV)/test  ## the fast tests, in two processes
	$(RUN) -m pytest -n 2 --dist worksteal -q

slow: $(VENV)/test  ## the slow tests
	$(RUN) -m pytest -n 2 --dist worksteal -q -m slow

product: $(VENV)/test  ## what `make slow` leaves out: every promise of every solver on every model
	$(RUN) -m pytest -n 2 --dist worksteal -q -m product

mutants: $(VENV)/test  ## deliberate faults, each of which the tests must catch
	$(RUN) tests/mutants.py $(MUTANTS)

lint: $(VENV)/dev  ## style
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

format: $(VENV)/dev  ## put the style right
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

types: $(VENV)/dev  ## static types
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/dev  ## the site, in docs/_build/html; warnings are errors
	OMP_NUM_THREADS=2 $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

examples: $(VENV)/base  ## every example, small
	@mkdir -p .smoke
	@for script in examples/*.py; do echo "== $$script"; (cd .smoke && ../$(BIN)/python ../$$script --smoke) || exit 1; done

wheel: $(VENV)/dev  ## build the wheel and import it in a clean environment
	rm -rf dist .wheel
	$(BIN)/python -m build --quiet --wheel --no-isolation
	$(PYTHON) -m venv .wheel
	.wheel/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt torch
	.wheel/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt dist/*.whl
	cd .wheel && bin/python ../tests/check_wheel.py

bench: $(VENV)/base  ## the engine's own cost
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/predictive_coding.py

clean:  ## remove everything that these commands made
	rm -rf $(VENV) .wheel .smoke dist build results docs/_build docs/gallery .pytest_cache .ruff_cache .hypothesis

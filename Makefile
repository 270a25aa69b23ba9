# Both targets do all of their own set-up, once: a virtual environment, the tested requirements, this package.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/ready
TEST_READY := $(VENV)/ready-for-tests
DOCS_READY := $(VENV)/ready-for-docs
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test test-all lint format bench docs clean

run: $(READY)  ## the quickstart: data, denoiser, agents, report in runs/quickstart
	$(VENV)/bin/python -m pgd_jax.cli.quickstart

test: $(TEST_READY) lint  ## all tests but the slow ones, compiled at XLA's lowest optimisation: a third of the time
	COMPILE_QUICKLY=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile

test-all: $(TEST_READY) lint  ## with the slow ones, compiled as users have it
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m ""

lint: $(TEST_READY)  ## style of the code, its types, and mistakes that can be read from it
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --quiet --check .
	$(VENV)/bin/mypy --no-error-summary

format: $(TEST_READY)
	$(VENV)/bin/ruff check --quiet --fix .
	$(VENV)/bin/ruff format --quiet .

bench: $(READY)  ## speed of the parts against the machine's matrix-multiply rate
	$(VENV)/bin/python -m experiments.bench

docs: $(DOCS_READY)  ## pages and notebooks as docs/_build/html; warnings and broken links are errors
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

$(READY): requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --only-binary=:all: -r requirements.txt
	$(PIP) --no-deps --editable .
	touch $(READY)

$(TEST_READY): $(READY) requirements-test.txt requirements-test-alone.txt
	$(PIP) --only-binary=:all: -r requirements-test.txt
	$(PIP) --only-binary=:all: --no-deps -r requirements-test-alone.txt
	touch $(TEST_READY)

$(DOCS_READY): $(TEST_READY) requirements-docs.txt
	$(PIP) --only-binary=:all: -r requirements-docs.txt
	touch $(DOCS_READY)

clean:  ## removes the environment; runs/ stays
	rm -rf $(VENV)

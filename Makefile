# Both targets do all of their own set-up, once: a virtual environment, the tested requirements, this package.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/ready

.PHONY: run test test-all lint format bench clean

run: $(READY)  ## the quickstart: data, denoiser, agents, report in runs/quickstart
	$(VENV)/bin/python -m experiments.quickstart

test: $(READY) lint  ## all tests but the slow ones
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

test-all: $(READY) lint  ## with the slow ones
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m ""

lint: $(READY)  ## style of the code, and mistakes that can be read from it
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --quiet --check .

format: $(READY)
	$(VENV)/bin/ruff check --quiet --fix .
	$(VENV)/bin/ruff format --quiet .

bench: $(READY)  ## speed of the parts against the machine's matrix-multiply rate
	$(VENV)/bin/python -m pgd_jax.cli.bench

$(READY): requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)

clean:  ## removes the environment; runs/ stays
	rm -rf $(VENV)

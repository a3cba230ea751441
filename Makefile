# Everything below needs only python3: the first target that needs it makes a virtual environment.

PYTHON ?= python3
VENV ?= .venv
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
RUN := $(VENV)/bin
INSTALL = $(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=
WORKERS ?= 2

.PHONY: help setup certify test lint types layers unit bench world clean

help:
	@echo "make certify   certify seeds 42, 7, 101 and 202 on Ray (ARGS='--executor serial' and so on)"
	@echo "make test      lint, types, layers and all tests, as CI runs them (WORKERS=2 processes of up to 5 GB)"
	@echo "make setup     only the virtual environment, with what seg1b needs to run"
	@echo "make world     rebuild the embedded world bundle from its sources"
	@echo "make bench     measure the chain, state by state, at 100,000 and 1,000,000 sites"
	@echo "make clean     remove the virtual environment and caches (not runs/)"

setup: $(RUNTIME)

$(RUNTIME): pyproject.toml constraints.txt
	@echo '$(PYTHON) -m venv $(VENV)'; $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian, Ubuntu:" \
			"apt install python3-venv), then run make again." >&2; exit 1; }
	$(INSTALL) --editable .
	$(RUN)/python -m compileall -q seg1b cluster
	touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(INSTALL) --editable '.[test,world]'
	touch $@

certify: $(RUNTIME)
	$(RUN)/seg1b certify $(ARGS)

test: lint types layers unit

lint: $(DEVELOPMENT)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(DEVELOPMENT)
	$(RUN)/mypy

layers: $(DEVELOPMENT)
	$(RUN)/lint-imports

unit: $(DEVELOPMENT)
	$(RUN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

bench: $(RUNTIME)
	$(RUN)/python scripts/bench_chain.py --sites 100000 1000000 $(ARGS)

world: $(DEVELOPMENT)
	$(RUN)/python scripts/build_world_bundle.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Everything below needs only python3: the first target that needs it makes a virtual environment.

PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
ARGS ?=

.PHONY: help setup certify verify test lint types layers unit bench world clean

help:
	@echo "make certify   certify seeds 42, 7, 101 and 202 on Ray (ARGS='--executor serial' and so on)"
	@echo "make test      lint, types, layers and all tests, as CI runs them"
	@echo "make setup     only the virtual environment"
	@echo "make world     rebuild the embedded world bundle from its sources"
	@echo "make bench     measure the states and the whole chain"
	@echo "make clean     remove the virtual environment and caches (not runs/)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[test,world]'
	touch $@

certify: $(READY)
	$(RUN)/seg1b certify $(ARGS)

test: lint types layers unit

lint: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(READY)
	$(RUN)/mypy

layers: $(READY)
	$(RUN)/lint-imports

unit: $(READY)
	$(RUN)/python -m pytest $(ARGS)

bench: $(READY)
	$(RUN)/python scripts/bench_certify.py $(ARGS)

world: $(READY)
	$(RUN)/python scripts/build_world_bundle.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

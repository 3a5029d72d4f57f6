# Everything below sets itself up in a virtual environment of its own.
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo reproduce test test-slow lint models clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(INSTALLED) models  ## Watch the embedded model bargain with scripted partners
	$(BIN)/sotopia-gym demo

reproduce: $(INSTALLED) models  ## SOTOPIA-pi with the embedded model, one seed (SEED=0): an hour or more, and it goes on
	$(BIN)/python -m baselines.sotopia_pi --seed $(SEED)

test: lint models  ## Lint, types, unit, conformance and one end-to-end test with the embedded model
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow and not model'
	$(BIN)/python -m pytest -m 'model and not slow'

test-slow: $(INSTALLED) models  ## The tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)  ## Lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

models: $(INSTALLED)  ## Get the embedded language model (once)
	$(BIN)/sotopia-gym models pull smollm2-135m

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,train,rl,ray,eval,knowledge,web,dev]'
	touch $@

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

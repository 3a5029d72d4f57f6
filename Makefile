# Everything below sets itself up in a virtual environment of its own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-slow lint models clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(INSTALLED) models  ## Watch the embedded model bargain with scripted partners
	$(BIN)/sotopia-gym demo

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,train,ray,eval,dev]'
	touch $@

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

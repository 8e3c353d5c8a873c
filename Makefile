# Everything happens in .venv, which the first `make demo` or `make test` creates. No root, no running server needed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
SETTINGS := pyproject.toml $(LOCK)
CHECKED := protocol producers worker tests .ci

# The first Python of at least 3.11 on the path; name another with `make PYTHON=/path/to/python …`.
ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$name" && break; done)
endif
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint $(LOCK)

.PHONY: help demo console test lint chaos soak lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/demo.stamp ## an English talk translated live; options with ARGS, e.g. make demo ARGS="--to de --fast"
	@$(BIN)/decalage demo $(ARGS)

console: $(VENV)/demo.stamp ## a worker, the gateway and its console in the browser; options with ARGS, e.g. make console ARGS="--port 9000"
	@$(BIN)/decalage up --open $(ARGS)

test: lint ## lint, types and all tests; options for pytest with ARGS, e.g. make test ARGS="-k broker"
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/test.stamp ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy

chaos: $(VENV)/test.stamp ## hundreds of sessions while workers and Redis are killed, paused and cut off; SEED=N repeats a run
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(VENV)/test.stamp ## sessions come and go for MINUTES=N while memory, keys and connections are watched
	@$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

lock: ## make requirements.lock anew from the newest versions that pyproject.toml allows
	@rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install -qq --disable-pip-version-check '.[dev,train]'
	$(VENV)-lock/bin/python -m pip freeze --exclude decalage | $(PYTHON) .ci/lock.py > $(LOCK).new && mv $(LOCK).new $(LOCK)
	@rm -rf $(VENV)-lock

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find protocol producers worker tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is not a Python of at least 3.11. Name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module. Debian, Ubuntu: install python3-venv. Or: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp is as new as the last install, so a second run is instant and a changed requirement installs again.
$(VENV)/demo.stamp: $(SETTINGS) | $(BIN)/python
	@echo "Installing what the worker needs into $(VENV) (once; a minute or two)"
	@$(PIP_INSTALL) --editable '.[worker,broker,gateway]'
	@touch $@

$(VENV)/test.stamp: $(SETTINGS) | $(BIN)/python
	@echo "Installing what the tests need into $(VENV) (once; a minute or two)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp

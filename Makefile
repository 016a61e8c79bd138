# What you can do here. Each target sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LOCKED ?=# 1: the exact versions of requirements-dev.lock, with their hashes, instead of the newest that pyproject.toml admits
LOCK := $(if $(LOCKED),requirements-dev.lock)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench lock oldest release clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## .venv with spq and everything that its tests need

$(READY): pyproject.toml $(LOCK)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spq needs Python 3.11 or newer; make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(if $(LOCK),$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(LOCK),--no-deps) -e '.[dev]'
	@touch $@

demo: $(READY) ## train, index, search and measure on the shipped sample, offline, in about three minutes
	$(BIN)/spq demo

test: $(READY) ## all tests, on all cores, a file at a time; SPQ_DRILLS=1 runs the longest ones, too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(READY) ## lint, format, types; of the page's JavaScript, too, and its unit tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	tools/check-page

docs: $(READY) ## the documentation site, in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html

bench: $(READY) ## the benchmarks that need no data of your own: views per second
	$(BIN)/python benchmarks/views.py

lock: ## write requirements-dev.lock again: the newest version of each dependency, for all systems, with hashes
	tools/lock

oldest: ## all tests with the oldest versions that pyproject.toml admits, in .venv-oldest
	tools/oldest

release: ## build wheel and sdist, run the demo from each in a clean environment, list their contents (SBOM), audit
	tools/release

clean: ## remove .venv, caches and the built documentation
	rm -rf docs/_build node_modules .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Commands of the project. `make` lists them. Everything they create is in .venv/ and in the data root
# (OPPORTUNITY_SYNC_DATA, default ./data).
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

UV_VERSION := 0.13.9
BIN := .venv/bin
PYTHON := $(BIN)/python
READY := .venv/.ready
SEED ?=
PORT ?= 8080

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

# Done again only when the locked packages or the package's own metadata have changed. `python -m pip` is used only to get
# uv, which then installs exactly what the lock file lists, checked by hash. The project itself is put on the path by a
# .pth file, so that `opportunity-sync` and edits to plugins/ work at once and nothing has to be built.
$(READY): requirements.lock Makefile
	@echo "Setting up .venv (a minute or two the first time)"
	@python=$$(command -v python3.11 || command -v python3.12 || command -v python3) && \
	  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "Python 3.11 or 3.12 is needed, as python3.11, python3.12 or python3"; exit 1; }; \
	  test -x $(PYTHON) || "$$python" -m venv .venv
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" || \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@$(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | { read -r site; \
	  echo "$(CURDIR)/plugins" > "$$site/opportunity_sync.pth"; }
	@printf '%s\n' '#!/bin/sh' 'exec "$$(dirname "$$0")/python" -m opportunity_sync "$$@"' > $(BIN)/opportunity-sync
	@chmod +x $(BIN)/opportunity-sync
	@touch $@

.PHONY: setup
setup: $(READY) ## Create .venv from the lock file (the other commands do it when needed)
	@:

.PHONY: run
run: $(READY) ## Run the DAG once through Airflow, against the stand-in; SEED=DIR takes your own rows
	@$(PYTHON) -m quickstart run --seed "$(SEED)"

.PHONY: up
up: $(READY) ## Start the Airflow UI, the scheduler and the stand-in on this machine; PORT=8080
	@$(PYTHON) -m quickstart up --seed "$(SEED)" --port $(PORT)

.PHONY: down
down: $(READY) ## End everything that `make up` started
	@$(PYTHON) -m quickstart down

.PHONY: lint
lint: $(READY) ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: $(READY) ## Write the generated pages
	$(PYTHON) -m docs.generate

.PHONY: docs-check
docs-check: $(READY) ## Fail if a generated page is out of date
	$(PYTHON) -m docs.generate --check

.PHONY: browser
browser: $(READY) ## Find a browser for the tests, or install one
	@$(PYTHON) -m tests.browser.install

.PHONY: test
test: lint docs-check browser ## Everything: lint, format, types, generated pages, all tests
	$(PYTHON) -m pytest -n 2 --dist loadgroup

.PHONY: check
check: lint ## The same without the slow tests and the two pages of examples
	$(PYTHON) -m docs.generate --check --quick
	$(PYTHON) -m pytest -n 2 --dist loadgroup -m "not slow"

.PHONY: bench
bench: $(READY) ## Measure speed and memory
	$(PYTHON) -m benchmarks

.PHONY: lock
lock: $(READY) ## Pin all packages again from requirements.txt and requirements-dev.txt
	$(BIN)/uv pip compile --quiet --python-version 3.11 requirements-dev.txt --generate-hashes -o requirements.lock

# Everything goes through uv and the exact locks; nothing outside the checkout is written except caches.
UV_VERSION := 0.13.9
UV ?= $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
# The set of packages: glue39 is the jobs' on AWS Glue Python shell, current has current releases.
SET ?= glue39
ifeq ($(SET),current)
DEV_LOCK = requirements-dev.lock
VENV ?= .venv-current
PY ?= >=3.11,<3.15
else
DEV_LOCK = requirements-glue39-dev.lock
VENV ?= .venv
PY ?= >=3.9,<3.13
endif
INFRA_VENV ?= .venv-infra
DAYBOOK = $(VENV)/bin/daybook
LOCK = $(UV) pip compile --quiet --universal --python-version 3.9 --fork-strategy fewest --generate-hashes --no-header --no-annotate

.PHONY: help setup demo test test-all conformance emulator schemas bench docs lint lint-infra format lab lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.tools/bin/uv:
	python3 -m pip install --quiet --disable-pip-version-check --target .tools uv==$(UV_VERSION)

$(VENV)/ready: $(DEV_LOCK) pyproject.toml | $(filter .tools/bin/uv,$(UV))
	@test -x $(VENV)/bin/python || $(UV) venv --quiet --python '$(PY)' $(VENV)
	$(UV) pip sync --quiet --require-hashes --compile-bytecode --python $(VENV)/bin/python $(DEV_LOCK)
	$(UV) pip install --quiet --no-deps --python $(VENV)/bin/python --editable .
	@touch $@

setup: $(VENV)/ready ## make .venv with the daybook command, from the lock (SET=current: .venv-current, current releases)

demo: setup ## make a seeded shop's landing files, run its last day and the week before, show the day
	$(DAYBOOK) demo
	@for day in 23 24 25 26 27 28 29 30; do $(DAYBOOK) run --date 2025-11-$$day || exit $$?; done

PYTEST = $(VENV)/bin/python -m pytest --durations=25
# Two processes; a file's tests stay in one of them. Files in the order of tests/conftest.py, not by their number of tests.
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder

test: setup .tools/emulator/ready ## run the tests for a change: the fast ones and one of each slow kind (ARGS="..." for pytest)
	$(PYTEST) $(PARALLEL) -m 'not slow or smoke' $(ARGS)

test-all: setup .tools/emulator/ready $(if $(shell command -v npm),.tools/conformance/ready) ## run all tests, also those of whole runs that take minutes
	$(PYTEST) $(PARALLEL) $(ARGS)

# Another interpreter of the Amazon States Language, in an environment of its own: nothing of it is beside Daybook's packages.
.tools/conformance/ready: tests/conformance/requirements.lock tests/conformance/package-lock.json | $(filter .tools/bin/uv,$(UV))
	mkdir -p .tools/conformance
	cp tests/conformance/package.json tests/conformance/package-lock.json .tools/conformance
	cd .tools/conformance && npm ci --silent --ignore-scripts --no-audit --no-fund
	@test -x .tools/conformance/venv/bin/python || $(UV) venv --quiet --python '$(PY)' .tools/conformance/venv
	$(UV) pip sync --quiet --require-hashes --python .tools/conformance/venv/bin/python tests/conformance/requirements.lock
	@touch $@

conformance: setup .tools/conformance/ready ## hold the state machines' interpreter against another one
	$(PYTEST) tests/conformance

# An emulator of AWS, in an environment of its own: it needs a newer Python and another botocore than jobs have.
.tools/emulator/ready: tests/emulator/requirements.lock | $(filter .tools/bin/uv,$(UV))
	@test -x .tools/emulator/venv/bin/python || $(UV) venv --quiet --python '>=3.10,<3.13' .tools/emulator/venv
	$(UV) pip sync --quiet --require-hashes --python .tools/emulator/venv/bin/python tests/emulator/requirements.lock
	@touch $@

emulator: setup .tools/emulator/ready ## test what is there for AWS against an emulator of it, on loopback
	$(PYTEST) tests/emulator

schemas: setup ## write the JSON schemas of records to docs/schemas
	$(VENV)/bin/python -m daybook.records.schemas

bench: setup ## measure Daybook beside the usual ways (ARGS="small", "all --write", "--help")
	$(VENV)/bin/python -m benchmarks $(ARGS)

# The generator of the site, in an environment of its own: it needs a newer Python.
.tools/docs/ready: docs/requirements.lock | $(filter .tools/bin/uv,$(UV))
	@test -x .tools/docs/venv/bin/python || $(UV) venv --quiet --python '>=3.11,<3.15' .tools/docs/venv
	$(UV) pip sync --quiet --require-hashes --python .tools/docs/venv/bin/python docs/requirements.lock
	@touch $@

docs: setup .tools/docs/ready ## build the documentation site in .site/
	$(VENV)/bin/python -m tests.docs.cli_reference
	.tools/docs/venv/bin/zensical build --strict --clean
	@! grep -rE --include='*.html' '<(script|link|img)[^>]* (src|href)="?https?:' .site || { echo "The site loads files from other hosts."; exit 1; }
	@echo "Open .site/index.html, or run python3 -m http.server --directory .site, which the search needs."

lint: setup ## check style, types and the project's own files
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(DAYBOOK) check

$(INFRA_VENV)/ready: infra/lint.lock | $(filter .tools/bin/uv,$(UV))
	@test -x $(INFRA_VENV)/bin/python || $(UV) venv --quiet --python '>=3.10,<3.13' $(INFRA_VENV)
	$(UV) pip sync --quiet --require-hashes --python $(INFRA_VENV)/bin/python infra/lint.lock
	@touch $@

lint-infra: $(INFRA_VENV)/ready ## check templates and state machines with cfn-lint and checkov
	$(INFRA_VENV)/bin/python infra/lint.py

format: setup ## put the code into shape
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

lab: setup ## open the notebooks in JupyterLab
	$(DAYBOOK) lab

lock: $(filter .tools/bin/uv,$(UV)) ## resolve the locks again after a change of dependencies
	$(LOCK) pyproject.toml --constraint requirements-glue39.in --output-file requirements-glue39.lock
	$(LOCK) pyproject.toml --extra dev --constraint requirements-glue39.lock --output-file requirements-glue39-dev.lock
	$(subst --python-version 3.9,--python-version 3.11,$(LOCK)) pyproject.toml --output-file requirements.lock
	$(subst --python-version 3.9,--python-version 3.11,$(LOCK)) pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(subst --python-version 3.9,--python-version 3.10,$(LOCK)) infra/lint.in --output-file infra/lint.lock
	$(LOCK) tests/conformance/requirements.in --constraint requirements-glue39-dev.lock --output-file tests/conformance/requirements.lock
	$(subst --python-version 3.9,--python-version 3.10,$(LOCK)) tests/emulator/requirements.in --output-file tests/emulator/requirements.lock
	$(subst --python-version 3.9,--python-version 3.11,$(LOCK)) docs/requirements.in --output-file docs/requirements.lock
	cd tests/conformance && npm install --silent --package-lock-only --ignore-scripts --no-audit --no-fund

clean: ## remove what the demo, the tests and the site generator made (not the environments)
	rm -rf .daybook .site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Everything here sets up what it needs in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := --quiet --constraint constraints.txt --editable '.[dev]'
FUZZ := .venv-fuzz
SITE := .venv-site
FUZZ_SECONDS ?= 300
ROUNDS ?= 20
# One more than there are cores, three at most: half of the time tests wait for programs.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(3, (os.cpu_count() or 1) + 1))')

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-fast e2e faults floors matrix pins digests parts dist site lint types format fuzz figures bench clean

help: ## Show what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) is here. Next: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@export PYTHONWARNINGS=ignore; $(BIN)/pip install --quiet --disable-pip-version-check uv && \
	  $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode $(PACKAGES) || \
	  { echo "uv could not; once more with pip, some minutes ..."; $(BIN)/pip install --disable-pip-version-check $(PACKAGES); }
	@touch $@

setup: $(READY) ## Set up .venv

demo: $(READY) ## Run a chat app, a model server and the gateway end to end; print the rows (KEEP=1: and leave the page running; NAMES=1: with people's names; SHAPE=postgresql or kafka-clickhouse: on the backends of the tests)
	@$(BIN)/python -m $(if $(SHAPE),tests.e2e.demo_shapes $(SHAPE),examples.chat_app.demo) $(if $(KEEP),--keep) $(if $(NAMES),--names)

serve: $(READY) ## Run the gateway on OTLP's ports, rows in telemetry.db
	@$(BIN)/otel-telemetry serve

test-fast: $(READY) ## Run the tests that need no server, in under a minute
	@$(BIN)/python -m pytest -q @tests/fast.txt

test: $(READY) ## Run the tests, three files at once (WORKERS=1: one); what failed runs once more, alone
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile || { [ $$? -eq 1 ] && \
	  echo "Once more, alone: what passes now depends on speed or on a neighbour; the summary above names it, mend it" && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --exitfirst; }

e2e: $(READY) ## Prove it end to end: real Collector, Jaeger, VictoriaLogs, Prometheus, SDKs of four languages (built once)
	@$(BIN)/python -m tests.e2e.sending
	@E2E=1 REQUIRE_BACKENDS=1 REQUIRE_BUILT=1 $(BIN)/python -m pytest tests/e2e tests/deploy tests/exporters/test_clickhouse.py
	@E2E=1 REQUIRE_BACKENDS=1 REQUIRE_BUILT=1 $(BIN)/python -m pytest -k "clickhouse or three_databases" tests/exporters/test_request_log_report*.py tests/ui tests/suite/test_three_databases.py

faults: $(READY) ## Run the fault tests ROUNDS=20 times, with all backends that can be installed; Jaeger and Kafka where e2e built them (KILLS=60: more kills around Kafka)
	@for round in $$(seq $(ROUNDS)); do \
	  echo "round $$round of $(ROUNDS)"; FAULTS=1 REQUIRE_BACKENDS=1 $(BIN)/python -m pytest -q tests/faults || exit 1; \
	done

floors: $(READY) ## Run the tests with the lowest versions of all dependencies, in an environment of its own
	@lowest=$$($(BIN)/python -m tests.company.environments) && \
	  $$lowest -m pytest -W ignore::DeprecationWarning tests/processors tests/exporters tests/instrument tests/gateway tests/suite

matrix: $(READY) ## Run beside real neighbours; resolve the wheel beside popular ones, put the table into docs/neighbours.md
	@MATRIX=1 $(BIN)/python -m pytest tests/company
	@$(BIN)/python -m tests.company.neighbours

pins: $(READY) ## Write constraints.txt and deploy/*requirements.txt anew from pyproject.toml (UPGRADE=1: with the newest versions)
	@$(BIN)/python -m tests.company.pins

digests: $(READY) ## Ask the registries for the digests of all images, write them beside their tags (needs Go)
	@$(BIN)/python -m tests.company.digests

parts: $(READY) ## Measure what the package and each extra bring along, put it into docs/installing.md
	@$(BIN)/python -m tests.company.parts

dist: $(READY) ## Build wheel and sdist into dist/, check them, install the wheel apart and run the demo and tests with it
	@rm -rf dist && $(BIN)/pip install --quiet --disable-pip-version-check build twine pyroma check-wheel-contents
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents --ignore W004 dist/*.whl # migrations begin with their number
	@$(BIN)/pyroma --min 9 .
	@$(BIN)/python -m tests.company.wheel dist

site: ## Build the site of docs/ into build/site; a link that leads nowhere fails it
	@test -x $(SITE)/bin/mkdocs || { $(PYTHON) -m venv $(SITE) && $(SITE)/bin/pip install --quiet --disable-pip-version-check \
	  'mkdocs-material>=9.8' 'mkdocstrings[python]>=1'; }
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict

lint: $(READY) ## Check style and layout
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## Check types
	@$(BIN)/mypy
	@$(BIN)/mypy --cache-dir .mypy_cache/tests --allow-untyped-defs --allow-untyped-calls --allow-incomplete-defs --no-warn-unused-ignores tests

format: $(READY) ## Put the code in shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

fuzz: $(READY) ## Fuzz the redactor (FUZZ_SECONDS=300), with atheris in an environment of its own
	@test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt atheris --editable .
	@$(FUZZ)/bin/python tests/fuzz/fuzz_redactor.py -max_total_time=$(FUZZ_SECONDS) -max_len=400 -timeout=20

figures: $(READY) ## Score the detector on the labelled corpora beside the repository
	@PYTHONPATH=. $(BIN)/python benchmarks/pii_targets.py
	@PYTHONPATH=. $(BIN)/python benchmarks/names.py

bench: $(READY) ## Measure speed, as ratios against a named baseline in the same run
	@for file in benchmarks/[a-z]*.py; do \
	  grep -q __main__ $$file && { echo; echo "== $$file"; PYTHONPATH=.:benchmarks $(BIN)/python $$file || exit 1; }; \
	done; true

clean: ## Remove what was made
	rm -rf $(VENV) $(FUZZ) $(SITE) demo-output build *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage

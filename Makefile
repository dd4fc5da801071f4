# Every target sets up what it needs on a fresh clone; stamps make the second run instant.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Tests and the demo start many processes: without bytecode each compiles all modules.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test test-fast check bench docs clean postfix

# The first Python that is new enough; `make PYTHON=/path/to/python3.12` overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for disks, for loopback and for other processes about as much as they compute: four workers also on two cores.
JOBS ?= 4
MINISTACK := ministack==1.5.33 cryptography

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run-stamp ## send the example campaign to the built-in inbox, end to end
	$(BIN)/postroom demo

test: $(VENV)/.dev-stamp .venv-ministack/.stamp .dynamodb-local/.stamp postfix ## run all tests (about ten minutes); what could not run is listed at the end
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-fast: $(VENV)/.dev-stamp ## run the tests of units, the embedded stores and the HTTP API (under two minutes)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --embedded tests/unit tests/contract tests/gateway

check: $(VENV)/.dev-stamp ## lint, format, types, layers, docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_docs.py tests/unit/test_tree.py tests/unit/test_vocabulary.py tests/gateway/test_door_docs.py

bench: $(VENV)/.dev-stamp postfix ## measure the figures in the README
	$(BIN)/python -m bench

docs: $(VENV)/.dev-stamp ## remake the reference pages that are made from the code
	$(BIN)/python -m postroom.settings.reference > docs/reference/settings.md
	$(BIN)/python -m postroom.telemetry.reference > docs/reference/logs.md
	$(BIN)/python -m postroom.entrypoints.cli.reference > docs/reference/command-line.md
	$(BIN)/python -m postroom.entrypoints.api_reference > docs/reference/api.md
	$(BIN)/python -m infra.reference > docs/reference/aws-stack.md

clean: ## remove what the targets made (never your data)
	rm -rf $(VENV) .venv-ministack .dynamodb-local postroom-deploy .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests bench infra -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.venv-stamp:
	@test -n "$(PYTHON)" || { echo "Postroom needs Python 3.11 or newer, and none was found: install one, or run make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.run-stamp: pyproject.toml $(VENV)/.venv-stamp
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev-stamp: pyproject.toml $(VENV)/.venv-stamp
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[aws,deploy]' --group dev
	@touch $@ $(VENV)/.run-stamp

# The AWS home is tested against ministack, in an environment of its own: its packages would leak into ours. Ours leak into its
# functions, and are meant to: it runs them with its own interpreter. Without it those tests are skipped, and say so.
.venv-ministack/.stamp: pyproject.toml $(VENV)/.venv-stamp
	@if $(PYTHON) -m venv .venv-ministack \
		&& .venv-ministack/bin/python -m pip install -q --disable-pip-version-check $(MINISTACK) -e '.[aws]'; \
	then touch $@; \
	else echo "ministack could not be installed: the tests of the AWS adapters will be skipped" >&2; fi

# Amazon's own emulator of DynamoDB, where Java and Maven are: the table is held to it as well.
.dynamodb-local/.stamp: tests/aws/dynamodb-local.xml
	@mkdir -p .dynamodb-local; if command -v java >/dev/null 2>&1 && command -v mvn >/dev/null 2>&1 \
		&& mvn -q -B -f tests/aws/dynamodb-local.xml dependency:copy-dependencies \
			-DoutputDirectory=$(CURDIR)/.dynamodb-local -DincludeScope=runtime; \
	then touch $@; else echo "DynamoDB Local could not be had (it takes Java and Maven): its tests will be skipped" >&2; fi

# smtp-sink, smtp-source and a real relay for tests and bench. Only root can install it, only Debian's kin have apt-get; without
# it the tests that need it are skipped. "No configuration" keeps the package from starting a mail server.
postfix:
	@command -v smtp-sink >/dev/null 2>&1 || [ -x /usr/sbin/smtp-sink ] || [ "$$(id -u)" != 0 ] \
		|| ! command -v apt-get >/dev/null 2>&1 || { \
		echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections 2>/dev/null; \
		export DEBIAN_FRONTEND=noninteractive; \
		{ timeout 120 apt-get -qq update && timeout 300 apt-get -qq install -y --no-install-recommends postfix; } >/dev/null 2>&1 \
		|| echo "postfix could not be installed: the tests that need it will be skipped" >&2; }

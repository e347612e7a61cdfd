# mailferry: everything a developer or a tester types. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PREFIX ?= /opt/mailferry
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-dev
UV ?= $(firstword $(wildcard $(BIN)/uv) uv)
LOCK_FLAGS ?= --upgrade
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header

FUZZ_STAMP := $(VENV)/.installed-fuzz
FUZZ_SECONDS ?= 60
HARNESSES ?=
FAULT_SEEDS ?= 20
FAULT_TESTS := $(wildcard tests/faults/test_kill_*.py tests/faults/test_ledger_*.py tests/faults/test_table_*.py tests/faults/test_uidls.py)

.PHONY: help demo test check fmt lint type imports unit fuzz faults bench bench-smoke install lock clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml tools/setup-venv.sh
	@bash tools/setup-venv.sh "$(PYTHON)" "$(VENV)" requirements/dev.txt
	@touch $@

demo: $(STAMP) ## Run the whole main job against a local sandbox and show what happened
	@$(BIN)/mailferry sandbox --demo

test: $(STAMP) ## Install what is needed (mail servers too) and run all tests
	@bash tests/run-all.sh $(BIN)

check: $(STAMP) fmt lint type imports unit ## Format, lint, types, import contracts and the fast tests

fmt: $(STAMP) ## Check the formatting
	$(BIN)/ruff format --check daemon tests benchmarks

lint: $(STAMP) ## Lint, and check the spelling
	$(BIN)/ruff check daemon tests benchmarks
	$(BIN)/codespell daemon benchmarks config deploy docs tools *.md

type: $(STAMP) ## Check types, strictly
	$(BIN)/mypy daemon tests/support benchmarks

imports: $(STAMP) ## Check that imports run in the allowed directions
	PYTHONPATH=daemon $(BIN)/lint-imports --no-cache

unit: $(STAMP) ## Run the fast tests
	$(BIN)/pytest -q -n auto --dist worksteal tests/unit tests/protocol tests/property

$(FUZZ_STAMP): $(STAMP) requirements/fuzz.txt
	$(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(FUZZ_STAMP) ## Fuzz each harness for FUZZ_SECONDS (60); HARNESSES="pop3 smtp" picks some
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(HARNESSES)

faults: $(STAMP) ## Run the measuring fault tests with FAULT_SEEDS (20) seeds and print the figures as a table
	@figures=$$(mktemp); result=0; \
	MAILFERRY_FAULT_SEEDS=$(FAULT_SEEDS) MAILFERRY_FAULT_FIGURES=$$figures $(BIN)/pytest -q $(FAULT_TESTS) || result=$$?; \
	$(BIN)/python tests/faults/report.py $$figures || result=1; \
	rm -f $$figures; exit $$result

bench: $(STAMP) ## Measure ours, the peers that are installed and a floor: BENCH="--only A,C" picks (docs/performance.md)
	PYTHONPATH=tests:daemon $(BIN)/python -m benchmarks $(BENCH)

bench-smoke: $(STAMP) ## Prove with little mail that the benchmark works; times are not judged
	PYTHONPATH=tests:daemon $(BIN)/python -m benchmarks --smoke

install: ## Install into PREFIX (/opt/mailferry), and as root the systemd unit beside it
	@bash tools/install.sh "$(PYTHON)" "$(PREFIX)"
	@if [ "$$(id -u)" = 0 ] && command -v systemctl >/dev/null; then bash tools/service.sh install "$(PREFIX)"; fi

uninstall: ## Stop the service, remove its unit and PREFIX; configuration and ledger stay
	@bash tools/service.sh uninstall "$(PREFIX)"

lock: ## Renew the lock files from pyproject.toml (needs uv; LOCK_FLAGS= keeps the versions that still fit)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: install it, or type make UV=/path/to/uv lock" >&2; exit 1; }
	$(COMPILE) $(LOCK_FLAGS) --extra uvloop -o requirements/runtime.txt pyproject.toml
	$(COMPILE) $(LOCK_FLAGS) --extra uvloop --group dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) $(LOCK_FLAGS) -c requirements/dev.txt --group build -o requirements/build.txt
	$(COMPILE) $(LOCK_FLAGS) -c requirements/dev.txt --group fuzz -o requirements/fuzz.txt

clean: ## Remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

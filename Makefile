# Sets itself up: needs only Python 3.11 or newer with pip, and make.

PYTHONS := python3 python3.11 python3.12 python3.13 python3.14 python
PYTHON ?= $(shell for p in $(PYTHONS); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 3
EXTRAS := dev,dashboard,alerts,metrics,celery
TYPED := $(wildcard src services examples)
PYTEST := $(BIN)/python -m pytest

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help test check lint demo chaos bench bench-full profile statements constraints hooks clean
.DELETE_ON_ERROR:

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

test: lint ## Everything: lint, types, layers and the whole suite
	@$(PYTEST) -n $(JOBS) --dist loadgroup

check: $(VENV)/.installed ## The quick loop: lint, types, the tests that start no processes
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(TYPED)
	@$(PYTEST) -x -q $(wildcard tests/unit tests/store tests/properties tests/test_architecture.py)

lint: $(VENV)/.installed ## Style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports --no-logo --no-cache

demo: $(VENV)/.installed ## Rehearse, approve and apply a real payout run
	@$(BIN)/python -m examples.payday.demo

chaos: $(VENV)/.installed ## Kill, stop, cut and fill for half an hour; the figures of docs/reliability.md
	@$(BIN)/python -m tests.faults.chaos $(CHAOS)

bench: $(VENV)-bench/.installed ## Beside peers and floors, in some six minutes
	@$(VENV)-bench/bin/python -m benchmarks $(BENCH)

bench-full: $(VENV)-bench/.installed ## The same for an hour: large ledgers, long loads
	@$(VENV)-bench/bin/python -m benchmarks --full $(BENCH)

profile: $(VENV)-bench/.installed ## Where the time of one operation goes: steps, calls, instructions
	@$(VENV)-bench/bin/python -m benchmarks.profile $(PROFILE)

statements: $(VENV)/.installed ## Compile the statements that come with the package anew
	@$(BIN)/python -m tests.support.ready

hooks: $(VENV)/.installed ## Check every commit before it is made
	@$(BIN)/pre-commit install

constraints: ## Resolve every dependency afresh into constraints.txt
	@$(MAKE) --no-print-directory VENV=$(VENV)-constraints $(VENV)-constraints/.created
	@$(VENV)-constraints/bin/python -m pip install --quiet --upgrade -e '.[$(EXTRAS)]'
	@$(VENV)-constraints/bin/python -m pip freeze --exclude-editable | LC_ALL=C sort -f > constraints.txt
	@rm -rf $(VENV)-constraints

clean: ## Remove everything that was built
	@rm -rf $(VENV) $(VENV)-constraints $(VENV)-bench build dist var .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	@find src tests examples services benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# The peers have an environment of their own: none of them is needed to use or to test gonogo.
$(VENV)-bench/.installed: pyproject.toml benchmarks/peers.txt
	@$(MAKE) --no-print-directory VENV=$(VENV)-bench $(VENV)-bench/.created
	@echo "Installing gonogo and its peers into $(VENV)-bench"
	@$(VENV)-bench/bin/python -m pip install --quiet -r benchmarks/peers.txt -e '.[postgres]'
	@touch $@

# Where the system's Python lacks ensurepip, its pip puts pip into the environment.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { \
		echo "gonogo needs Python 3.11 or newer: none of '$(PYTHONS)' is." >&2; \
		echo "Install one, or name it: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@touch $@

# `make demo` and `make test` are all the set-up there is; `make help` lists the rest.

PYTHON ?= python3
DEMO_DIR ?= $(CURDIR)/demo-runs
export PYTHON TORCH

python := .venv/bin/python
needs := pyproject.toml constraints.txt scripts/environment

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test bare lowest lint types contracts format check bench clean

help: ## This list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1|/' | \
		awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

# What a shell has set for other work must not lead the demo elsewhere.
unexport TRACKWAY_MODE TRACKWAY_PROJECT TRACKWAY_RUN_ID TRACKWAY_SERVER

demo: export TRACKWAY_DIR = $(DEMO_DIR)
demo: .venv/.demo ## Train three small networks on handwritten digits, list the runs, show the best
	@$(python) examples/digits.py
	@printf '\n$$ trackway ls digits\n'
	@.venv/bin/trackway ls digits
	@best=$$($(python) examples/digits.py --best) && \
		printf '\n$$ trackway show %s\n' "$$best" && \
		.venv/bin/trackway show "$$best" && \
		scripts/after_demo "$$best"

# Coverage is of core and backend, and measuring it slows the frameworks' own Python by half: the
# integrations are tested without. To find nothing in one of the two is no failure (exit code 5).
test: .venv/.tests ## Run all tests, with coverage (PYTEST_FLAGS="-k name" for some)
	@$(python) scripts/left_out.py
	@$(python) -m pytest --cov --cov-report=term-missing --ignore=tests/integrations \
		$(PYTEST_FLAGS) || [ $$? = 5 ]
	@$(python) -m pytest tests/integrations $(PYTEST_FLAGS) || [ $$? = 5 ]

bare: .venv/.tools ## Install the wheel alone and try it without any framework
	@scripts/bare_install

lowest: ## Run the integrations' tests with the oldest supported versions
	@scripts/lowest

lint: .venv/.tools ## Check style and formatting
	$(python) -m ruff check .
	$(python) -m ruff format --check .

types: .venv/.tests ## Check types (with the frameworks installed, whose types matter)
	$(python) -m mypy

contracts: .venv/.tools ## Check that imports point one way
	$(python) -c "from importlinter.cli import lint_imports_command as main; main()"

format: .venv/.tools ## Fix what can be fixed by itself
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

check: lint types contracts bare test ## All checks

bench: .venv/.tests ## Measure against the budgets
	$(python) -m benchmarks

clean: ## Remove the environment and everything the checks left; runs stay
	rm -rf .venv .venv-lowest-* .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache htmlcov

.venv/.demo: $(needs)
	@scripts/environment demo

.venv/.tools: $(needs)
	@scripts/environment tools

.venv/.tests: $(needs)
	@scripts/environment tests

# Every target makes .venv itself when it is missing or older than the pins.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?=
MODEL ?=
OUTPUT ?= demo-output
HOME_DIR ?= privacy-finetuner-home

# Two processes with one thread each beat one process with two threads on small models, and
# nobody's cores are oversubscribed. Tests start hundreds of processes: none should compile all
# sources again, even where the machine says that no bytecode is written.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=
# In the order of their names: a file of one long test that came last would be waited for.
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check fix scan bench docs docs-serve serve clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv with everything that the targets below need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## fine-tune with and without privacy, attack both, show the difference (DATA=, MODEL=)
	$(BIN)/privacy-finetuner demo --output '$(OUTPUT)' $(if $(DATA),--data '$(DATA)') $(if $(MODEL),--model '$(MODEL)')

test: $(STAMP) ## the tests, minutes
	$(PYTEST) -m 'not slow and not gpu and not network'

test-all: $(STAMP) ## the slow proofs too
	$(PYTEST) -m 'not gpu and not network'

check: $(STAMP) ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@echo 'check passed'

fix: $(STAMP) ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

scan: $(STAMP) ## bandit, pip-audit and detect-secrets over the project (asks the vulnerability service)
	$(BIN)/python scripts/security_scanner.py .

bench: $(STAMP) ## time and memory beside the peers (minutes)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/accounting.py
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/dp_step.py --all

docs: $(STAMP) ## build the documentation into site/
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

serve: $(STAMP) ## run the service at http://127.0.0.1:8080; the first start shows how to log in (HOME_DIR=)
	$(BIN)/privacy-finetuner serve --home '$(HOME_DIR)'

docs-serve: docs ## show the documentation at http://127.0.0.1:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory site

clean: ## remove .venv and everything that was made
	rm -rf $(VENV) site build dist demo-output .pytest_cache .mypy_cache .ruff_cache

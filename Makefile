# The chores of meshbook. Needs Python 3.11 or newer with venv, make and curl; everything else goes into .venv.
#
#   make run     make the environment, start a lab, run every stage, leave notebooks and report in outputs/
#   make test    make the environment, run the whole test suite
#   make check   lint, types, import contracts, notebooks without outputs
#   make lab     start a lab, and JupyterLab on copies of the notebooks; takes the lab down when JupyterLab ends
#   make bench   how true the measured outages are, against outages of known length (ARGS='--times 20' for the record)
#   make example a fresh outputs/example/ from one run on the lab, to be reviewed before it is committed
#   make clean   remove the environment, caches and run outputs (the example stays)

SHELL := /bin/sh
.DELETE_ON_ERROR:
.PHONY: run test check lab bench example clean

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=

run: $(VENV)/.run
	$(BIN)/meshbook run --lab $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

lab: $(VENV)/.run
	$(BIN)/meshbook lab up
	trap '$(BIN)/meshbook lab down' EXIT; trap : INT; eval "$$($(BIN)/meshbook lab env)"; \
	work=outputs/work/$$(date +%Y%m%d-%H%M%S); mkdir -p $$work && cp notebooks/*.ipynb $$work && \
	$(BIN)/jupyter lab $$work --allow-root --KernelManager.transport_encryption=auto $(ARGS); \
	echo "for the pages of what you have run and saved: $(BIN)/meshbook report $$work"; \
	echo "for the list of all runs: $(BIN)/meshbook report outputs"

bench: $(VENV)/.run
	$(BIN)/python bench/outage_accuracy.py $(ARGS)

example: $(VENV)/.run
	rm -rf outputs/example
	$(BIN)/meshbook run --lab --out outputs --run-id example --redact addresses $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find outputs -mindepth 1 -maxdepth 1 ! -name example -exec rm -rf {} +
	rm -f notebooks/*.csv notebooks/*.parquet
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@test -n '$(PYTHON)' || { echo 'meshbook needs Python 3.11 or newer; none was found on PATH' >&2; exit 2; }
	@command -v curl >/dev/null || { echo 'meshbook needs curl; install it with your package manager' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo 'venv failed; on Debian: apt-get install python3-venv' >&2; exit 2; }
	cp -R etc $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/pip
	@echo 'installing meshbook and what it needs into $(VENV); a minute or two'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[lab,gke]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	@echo 'installing meshbook and what it and its tests need into $(VENV); a minute or two'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[lab,gke,dev]'
	@touch $@ $(VENV)/.run

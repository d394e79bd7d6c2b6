# The only list of tasks; continuous integration calls these, so that green means the same everywhere.
# Needs Linux, Python >= 3.11 with venv, pip and make; everything else is installed into .venv.

VENV := .venv
BIN := $(VENV)/bin

# A version manager may put a python3.11 on PATH that only says it is not installed: each is tried.
PYTHON ?= $(shell for candidate in python3.11 python3.14 python3.13 python3.12 python3 /usr/bin/python3; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$candidate && break; done)

PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
# Editable, without dependencies: those are pinned in requirements/.
EDITABLES := -e . $(foreach plugin,$(PLUGINS),-e $(dir $(plugin)))
METADATA := setup.cfg pyproject.toml $(PLUGINS) Makefile
DIST ?= dist
# How many of its files the suite runs at once; most tests wait.
JOBS ?= 2
# The images' Python; that of .venv, for which the wheels in dist/ are.
BASE ?= python:$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')-slim
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check soak rolling chaos bench bench-quick fuzz history dev-services docs dist images clean

help:  ## Show the tasks
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS=: read -r task text; do printf '  make %-14s%s\n' "$$task" "$$text"; done

run: $(VENV)/.run  ## Serve on 127.0.0.1:8080 with the examples deployed, until Ctrl-C
	@exec $(BIN)/python scripts/run_service.py

test: $(VENV)/.dev  ## Run all tests, JOBS files at once; JOBS=0 is one by one; PYTEST_ARGS
	@$(BIN)/python -m pytest -p tests.parallel -n $(JOBS) $(PYTEST_ARGS)

check: $(VENV)/.dev  ## Lint, types, house rules, the tests of the JavaScript side
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/house
	@$$($(BIN)/python scripts/node_path.py) --test 'js/tests/**/*.test.mjs'

soak: $(VENV)/.dev  ## Ten minutes of hostile functions and kills; SOAK_SECONDS, SOAK_SEED
	@$(BIN)/python tests/soak/soak.py

rolling: $(VENV)/.dev  ## Restart two workers behind HAProxy under 10,000 requests
	@ROLLING_REQUESTS=$${ROLLING_REQUESTS:-10000} $(BIN)/python -m pytest -s tests/integration/test_balancer.py

chaos: $(VENV)/.dev  ## Five minutes of mixed load on both roles while any process is killed; CHAOS_SECONDS, CHAOS_SEED
	@CHAOS_SECONDS=$${CHAOS_SECONDS:-300} $(BIN)/python -m pytest --quiet -s tests/chaos

bench: $(VENV)/.dev  ## Measure beside a bare echo and other hosts of functions; writes bench/RESULTS.md; needs wrk
	@$(BIN)/python -m bench.compare

bench-quick: $(VENV)/.dev  ## The rows without Docker and many functions, in two minutes; writes nothing
	@$(BIN)/python -m bench.compare --quick

fuzz: $(VENV)/.dev  ## Ten minutes of Schemathesis against a live service; FUZZING_SECONDS, FUZZING_SEED
	@FUZZING_SECONDS=$${FUZZING_SECONDS:-600} $(BIN)/python -m pytest --quiet tests/integration/test_schemathesis.py

history: $(VENV)/.dev  ## Two minutes of db_s3 beside servers that fail; HISTORY_SECONDS, HISTORY_SEED
	@HISTORY_SECONDS=$${HISTORY_SECONDS:-120} $(BIN)/python -m pytest --quiet -s --timeout 1800 tests/history

dev-services: $(VENV)/.dev  ## PostgreSQL and S3 for db_s3, until Ctrl-C; prints the variables
	@exec $(BIN)/python -m tests.services.dev

docs: $(VENV)/.run  ## Write what of the pages is generated
	@$(BIN)/python scripts/write_docs.py

dist: $(VENV)/.run  ## Wheels of everything into dist/, for images and machines without a network
	@rm -rf $(DIST) build plugins/*/build && mkdir -p $(DIST)
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(DIST) . $(dir $(PLUGINS))
	@$(PIP) download --only-binary :all: --no-deps --dest $(DIST) -r requirements/run.txt
	@rm -rf build plugins/*/build

images: dist  ## Build the container images of both roles; BASE names their Python
	@for role in dispatcher worker; do \
		docker build --build-arg BASE=$(BASE) --build-arg PIP_INDEX_URL \
			--target $$role --tag lowcode-faas-$$role . || exit 1; done

clean:  ## Remove the virtual environment and caches; keeps data/
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.run: requirements/run.txt $(METADATA)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: install it (Debian, Ubuntu: apt install python3-venv) or name it with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) -V)" && $(PYTHON) -m venv $(VENV); }
	@echo "installing lowcode-faas into $(VENV)"
	@$(PIP) install -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation $(EDITABLES)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "installing the tools of the tests into $(VENV)"
	@$(PIP) install -r requirements/dev.txt
	@touch $@

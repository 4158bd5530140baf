# `make` lists the targets.
# PYTHON=… names the interpreter, 3.11 or later; UP=… adds options to millrace up, TESTS=… says what pytest is to run;
# ONLY, PAIRS, SECONDS: see docs/performance.md.
PYTHON ?= python3
# Set here, so that make ignores environment variables of these names.
UP      :=
TESTS   :=
ONLY    :=
PAIRS   :=
SECONDS :=
# Tests without servers, which run on all cores. Of the others, which mostly wait, three files run at a time, each on a stack of its own.
FAST   := tests/unit tests/flow
BUGS   := tests/verify/test_seeded.py tests/verify/test_hidden.py
VENV   := .venv
BIN    := $(VENV)/bin
# Without PYTHON=… the environment that is there, if it works.
CHOOSE := python="$(PYTHON)"; \
	if [ "$(origin PYTHON)" = file ] && $(BIN)/python -c '' 2>/dev/null; then python=$(BIN)/python; fi
# Runs a command under a name, and says that it still runs: nothing here is silent for more than 5 seconds.
STEP   := @$(BIN)/python -m stack.progress

.PHONY: help up down test unit check fmt coverage verify bench lock upgrade settings hooks setup jars clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

up: setup ## run the whole pipeline on this machine, until Ctrl-C
	@$(BIN)/millrace up --with-parent $(UP)

down: ## end the stack that runs here
	@if test -x $(BIN)/python; then $(BIN)/python -m cli.main down; else echo "nothing is set up here"; fi

test: check jars ## lint, check types and layers, run all tests but the slow ones
	$(STEP) "programs for tests" sh tests/tools.sh haproxy nginx faketime
	@$(if $(TESTS),$(BIN)/pytest $(TESTS),\
	failed=0; \
	$(BIN)/pytest -n auto --dist loadfile $(FAST) || failed=1; \
	$(BIN)/pytest -n 3 --dist loadfile tests $(FAST:%=--ignore=%) || failed=1; \
	exit $$failed)

unit: setup ## run the unit tests: no server, no Java, seconds
	$(BIN)/pytest -q -n 3 --dist worksteal tests/unit $(TESTS)

check: setup ## lint, check format, types and layers
	$(STEP) "rules (ruff)" $(BIN)/ruff check .
	$(STEP) "format (ruff)" $(BIN)/ruff format --check .
	$(STEP) "types (mypy)" $(BIN)/mypy
	$(STEP) "layers (import-linter)" $(BIN)/lint-imports

fmt: setup ## format the code, fix what ruff can fix
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

coverage: setup jars ## run unit, flow and contract tests; print the lines that they miss
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q tests/unit tests/flow tests/contract; failed=$$?; \
	$(BIN)/coverage report; exit $$failed

verify: setup jars ## run the slow tests: what a stack and a cluster must survive
	$(STEP) "programs for tests" sh tests/tools.sh haproxy nginx faketime chromium pgbouncer redis-server postgres
	@$(if $(TESTS),$(BIN)/pytest -m slow $(TESTS),\
	failed=0; \
	$(BIN)/pytest -m slow -n 2 $(BUGS) || failed=1; \
	$(BIN)/pytest -m slow tests/verify $(BUGS:%=--ignore=%) || failed=1; \
	$(BIN)/pytest -m slow -n 2 --dist loadfile tests --ignore=tests/verify || failed=1; \
	exit $$failed)

# Each figure beside a reference of the same run; wants the machine for itself.
bench: setup ## measure what it costs: docs/performance.md
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(SECONDS),--seconds $(SECONDS))

# Without the environment that is there: pyproject.toml may ask for what it lacks, and a lock file may be broken.
lock: ## write the lock files anew, after a change of the requirements in pyproject.toml
	@$(CHOOSE); "$$python" -m stack.lock

upgrade: ## write the lock files anew, with the newest versions that pyproject.toml admits
	@$(CHOOSE); "$$python" -m stack.lock --upgrade

settings: setup ## write docs/settings.md anew, after a change of runtime/settings.py
	@$(BIN)/python -m runtime.settings_page > docs/settings.tmp && mv docs/settings.tmp docs/settings.md

hooks: setup ## check format, rules and layers before each commit
	@$(BIN)/pre-commit install

# An environment that is there is used as it is, unless PYTHON is named or something has changed.
setup: ## make the environment, .venv, from the lock files
	@$(CHOOSE); \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $$python is: `"$$python" -V 2>&1`. Try: make setup PYTHON=python3.12" >&2; exit 1; }; \
	"$$python" -m stack.install $(VENV)

# Kafka's jars, before the first test that needs them has to wait.
jars: setup ## fetch Kafka's jars by Maven
	@$(BIN)/python -m stack.servers.java

# As root, also removes the copy of PostgreSQL when no other checkout uses it.
clean: ## remove the environment and the caches; data stays
	@$(CHOOSE); "$$python" -m stack.uninstall $(VENV) || true
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*

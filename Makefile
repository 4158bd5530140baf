# make up · make test · make verify · make bench · make check · make down · make clean
# PYTHON=… names the interpreter, 3.11 or later; UP=… adds options to millrace up, TESTS=… says what pytest is to run;
# ONLY, PAIRS, SECONDS: see docs/performance.md.
PYTHON ?= python3
# Set here, so that make ignores environment variables of these names.
UP      :=
TESTS   :=
ONLY    :=
PAIRS   :=
SECONDS :=
VENV   := .venv
BIN    := $(VENV)/bin
# Without PYTHON=… the environment that is there, if it works.
CHOOSE := python="$(PYTHON)"; \
	if [ "$(origin PYTHON)" = file ] && $(BIN)/python -c '' 2>/dev/null; then python=$(BIN)/python; fi
# Runs a command under a name, and says that it still runs: nothing here is silent for more than 5 seconds.
STEP   := @$(BIN)/python -m stack.progress

.PHONY: up test verify bench check down clean setup jars

up: setup
	@$(BIN)/millrace up --with-parent $(UP)

test: check jars
	$(STEP) "programs for tests" sh tests/tools.sh haproxy nginx faketime
	$(BIN)/pytest $(TESTS)

# What a stack and a cluster must survive.
verify: setup jars
	$(STEP) "programs for tests" sh tests/tools.sh haproxy nginx faketime chromium
	$(BIN)/pytest -m slow $(TESTS)

# What it costs, each figure beside a reference of the same run; docs/performance.md. Wants the machine for itself.
bench: setup
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(SECONDS),--seconds $(SECONDS))

check: setup
	$(STEP) "rules (ruff)" $(BIN)/ruff check .
	$(STEP) "format (ruff)" $(BIN)/ruff format --check .
	$(STEP) "types (mypy)" $(BIN)/mypy
	$(STEP) "layers (import-linter)" $(BIN)/lint-imports

down:
	@if test -x $(BIN)/python; then $(BIN)/python -m cli.main down; else echo "nothing is set up here"; fi

# As root, also removes the copy of PostgreSQL when no other checkout uses it.
clean:
	@$(CHOOSE); "$$python" -m stack.uninstall $(VENV) || true
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# Kafka's jars, before the first test that needs them has to wait.
jars: setup
	@$(BIN)/python -m stack.servers.java

# An environment that is there is used as it is, unless PYTHON is named or something has changed.
setup:
	@$(CHOOSE); \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $$python is: `"$$python" -V 2>&1`. Try: make PYTHON=python3.12" >&2; exit 1; }; \
	"$$python" -m stack.install $(VENV)

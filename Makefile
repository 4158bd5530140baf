# make up · make test · make verify · make bench · make check · make down · make clean
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: up test verify bench check down clean

up: $(VENV)/.installed
	$(BIN)/millrace up --with-parent

test: check
	@sh tests/tools.sh haproxy nginx
	$(BIN)/pytest

# What a stack and a cluster must survive.
verify: $(VENV)/.installed
	@sh tests/tools.sh haproxy nginx chromium
	$(BIN)/pytest -m slow

# What it costs, each figure beside a reference of the same run; docs/performance.md. Wants the machine for itself.
bench: $(VENV)/.installed
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(SECONDS),--seconds $(SECONDS))

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

down: $(VENV)/.installed
	$(BIN)/millrace down

# The last checkout that is cleaned also removes the copy of PostgreSQL outside, which only root has.
clean:
	@"$(PYTHON)" -m runtime.stack.uninstall $(VENV)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is `$(PYTHON) -V 2>&1`. Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) …"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded,dev]'
	@touch $@

# make run: a virtual environment, the exporter in it, serving config/quota.yml.
# make test: the same, then every check and every test.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: run test check install clean

run: $(VENV)/.installed
	$(BIN)/llm-quota-exporter serve --config.file config/quota.yml

install: $(VENV)/.tested

test: $(VENV)/.tested check
	$(BIN)/python -m pytest

check: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable '.[redis]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --group dev
	touch $@

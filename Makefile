# make run: a virtual environment, the exporter in it, serving config/quota.yml.
# make test: the same, then every check and every test.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  --quiet pyproject.toml

.PHONY: run test check audit lock install clean

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
	-$(BIN)/pip-audit --requirement requirements.lock --disable-pip --progress-spinner off # where it reaches its source

# Fails on a known vulnerability of what is installed, and where nobody can be asked.
audit: $(VENV)/.tested
	$(BIN)/pip-audit --requirement requirements.lock --disable-pip --progress-spinner off --strict

# The newest versions that pyproject.toml allows, for every platform and Python.
lock: $(VENV)/.tested
	$(COMPILE) --upgrade --extra grpc --extra redis --output-file requirements.lock
	sed -i '1i # The versions that `make run` and the image install. Made anew by: make lock' requirements.lock
	$(COMPILE) --upgrade --extra grpc --extra redis --group dev --constraint requirements.lock --output-file requirements-dev.lock
	sed -i '1i # The versions that `make test` installs on top. Made anew by: make lock' requirements-dev.lock

clean:
	rm -rf $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed requirements-dev.lock
	$(BIN)/pip install --quiet --require-hashes --requirement requirements-dev.lock
	touch $@

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_STAMP := $(VENV)/.demo-installed
DEV_STAMP := $(VENV)/.dev-installed
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: help venv
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

venv: $(DEV_STAMP) ## create or refresh .venv with all that development needs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edge-gateway needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another one with PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing edge-gateway into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing edge-gateway and its development tools into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[demo,dev]'
	@touch $@ $(DEMO_STAMP)

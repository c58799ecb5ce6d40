PYTHON ?= python3
# Most tests wait for a device, a broker or a watchdog: eight at a time keep two cores busy.
TEST_WORKERS ?= 8
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

# Two stamps: a demo needs no development tools, and so a fresh one starts sooner.
DEMO_STAMP := $(VENV)/.demo-installed
DEV_STAMP := $(VENV)/.dev-installed

# On a terminal Ctrl-C reaches the whole foreground group, and make would report an interrupt though
# the program ended well. Job control (set -m) gives the program a foreground group of its own.
define FOREGROUND
if [ -t 0 ]; then exec bash -c 'set -m; "$$@"; exit $$?' -- $(1); else exec $(1); fi
endef

# In a fresh clone each of the workers would compile all tests: two do it first, half of them each.
COMPILE = $(BIN)/pytest -q --collect-only $(1) > /dev/null 2>&1

.PHONY: help venv demo install parts check test soak bench deb debtest boottest wheels clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: $(DEMO_STAMP) ## simulated boards, a radio, a broker and a live table; Ctrl-C ends it, DEMO_SECONDS=15 as well
	@$(call FOREGROUND,$(BIN)/edge-gateway demo)

install: ## as root: this folder's gateway becomes a service of this machine; again: upgrades it
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
	"$$folder/bin/pip" install -qq --disable-pip-version-check --no-input '.[ble-devices]' && \
	"$$folder/bin/edge-gateway" install

venv: $(DEV_STAMP) ## create or refresh .venv with all that development needs

parts: ## provide mosquitto and MicroPython for the tests, without root
	@$(PYTHON) -m tests.parts.fetch

check: $(DEV_STAMP) ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# What is compiled once need not be again by each worker, nor by each of a thousand processes.
test soak: export PYTHONDONTWRITEBYTECODE :=
test: $(DEV_STAMP) parts ## the test suite; PYTEST_ARGS="-k name -x" narrows it
ifdef PYTEST_ARGS
	$(BIN)/pytest $(PYTEST_ARGS)
else
	@[ -d tests/unit/__pycache__ ] || { $(call COMPILE,tests/unit) & $(call COMPILE,tests/f* tests/i*); wait; }
	$(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal -m "not alone"
	$(BIN)/pytest -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests)
endif

soak: $(DEV_STAMP) parts ## the tests that break things, for long, with a table of what they measured
	SOAK=1 $(BIN)/pytest -o faulthandler_timeout=0 $(PYTEST_ARGS) tests/faults \
		$$(grep -rlE --include='test_*.py' '@given|[sS][oO][aA][kK]' tests --exclude-dir=faults)

bench: $(DEV_STAMP) parts ## throughput and latency beside mosquitto_pub's, as ratios
	$(BIN)/python -m tests.bench

deb: $(DEV_STAMP) ## dist/edge-gateway_*.deb; DEB_ARCHITECTURE=arm64 for another machine
	$(BIN)/python -m deb.build $(if $(DEB_ARCHITECTURE),--architecture $(DEB_ARCHITECTURE))

debtest: deb ## the package of this machine installed, used and purged in a clean Debian; lintian; needs root
	$(BIN)/python -m deb.try_out $$(ls -t dist/edge-gateway_*_$$(dpkg --print-architecture).deb | head -1)

boottest: deb ## installation, upgrades, watchdog and sandbox on a Debian that systemd has booted; needs root
	$(BIN)/python -m deb.try_boot $$(ls -t dist/edge-gateway_*_$$(dpkg --print-architecture).deb | head -1)

wheels: $(DEV_STAMP) ## which Python packages have wheels, for which machine: asks PyPI
	@$(BIN)/python -m deb.wheels

clean: ## remove all that make has made
	rm -rf $(VENV) .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info < (3, 11) and sys.exit("$(PYTHON) is Python " + v + ", and 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing edge-gateway into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing edge-gateway and its development tools into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[demo,dev]'
	@touch $(DEMO_STAMP) $@

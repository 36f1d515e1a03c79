# The whole life of a checkout. Each target makes what it needs; an install that was cut short is mended by the next call.
#   make quickstart    raise a small Llama, from raw text to a chat, with a report (about ten minutes on two cores)
#   make test          the main suite
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help quickstart test slow check format docs bench bench-gpu clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: $(VENV)/.base ## Raise a small Llama from this machine's own Python; the same command goes on after a stop
	@$(BIN)/herdling quickstart

test: $(VENV)/.dev ## The main suite, without slow and GPU tests; a worker a core
	$(RUN) -n auto --dist loadfile

slow: $(VENV)/.dev ## The tests that take minutes
	$(RUN) -m "slow and not gpu"

check: $(VENV)/.dev ## What CI demands besides the tests: style, types, layers, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(RUN) tests/architecture
	$(MAKE) docs

format: $(VENV)/.dev ## Put all files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## Build the documentation; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.dev ## Time and check against the peers, on the CPU (minutes)
	@for script in benchmarks/bench_*.py; do echo "$$script"; $(BIN)/python $$script || exit 1; done

bench-gpu: $(VENV)/.dev ## The same on one GPU
	@for script in benchmarks/gpu_*.py; do [ -e "$$script" ] || { echo "there are none yet"; exit 1; }; echo "$$script"; $(BIN)/python $$script || exit 1; done

clean: ## Remove what can be made again; runs/ stays
	rm -rf $(VENV) build docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +

# An install leaves its mark only at the end. One that was cut short leaves .installing instead, and is begun afresh: a half-copied package looks
# whole to pip. Its cache makes the second try quick.
define install
@$(PYTHON) -c 'import sys; sys.exit("herdling needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
@if [ -e $(VENV)/.installing ]; then echo "the last install was cut short: beginning afresh"; rm -rf $(VENV); fi
@[ -x $(BIN)/python ] || { mkdir -p $(VENV); touch $(VENV)/.installing; $(PYTHON) -m venv $(VENV); }
@touch $(VENV)/.installing
$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '$(1)'
@rm $(VENV)/.installing
@touch $@
endef

$(VENV)/.base: pyproject.toml constraints.txt
	$(call install,.)

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $(VENV)/.base

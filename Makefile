# What you type in a fresh checkout. `make` alone lists it all.
PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 2

# `cpu` takes PyTorch without the libraries of graphics cards, 1.5 GB instead of 6: make TORCH=cpu install
TORCH  ?=
WHEELS := https://download.pytorch.org/whl

BIN     := $(VENV)/bin
RUNNING := $(VENV)/.installed
TESTING := $(VENV)/.installed-dev
# One thread a worker: on a few cores more of them only wait for each other.
CALM  := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help help-texts install fit test test-slow lint clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(RUNNING)  ## make .venv and install Octavius in it (PYTHON=python3.12 picks another Python, TORCH=cpu a small PyTorch)

$(RUNNING): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if (3, 11) <= sys.version_info[:2] < (3, 13) \
	else "Octavius needs Python 3.11 or 3.12, $(PYTHON) is " + v + "; name another: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/python -m pip install --no-deps --retries 1 --timeout 20 --index-url $(WHEELS)/$(TORCH) \
		$(shell grep -E '^torch(vision)?==' constraints.txt) \
		|| echo "$(WHEELS)/$(TORCH) has no such wheels or cannot be reached: PyTorch comes from PyPI (6 GB)")
	$(BIN)/python -m pip install --editable . --constraint constraints.txt
	@touch $@

$(TESTING): $(RUNNING)
	$(BIN)/python -m pip install --editable '.[dev]' --constraint constraints.txt
	@touch $@

fit: $(RUNNING)  ## train and evaluate the miniature image set-up
	$(BIN)/octavius fit --config 2d.yaml

help-texts: $(RUNNING)  ## write the stored help of each command anew, from its parser
	for file in octavius/cli/help/*.txt; do command=$$(basename $$file .txt); case $$command in \
	fit|validate|test) ;; \
	check-data) (COLUMNS=110 $(BIN)/octavius $$command --help-all; echo; \
		COLUMNS=110 $(BIN)/octavius $$command --config 2d.yaml --help-all) > $$file ;; \
	*) COLUMNS=110 $(BIN)/octavius $$command --help-all > $$file ;; esac; done

test: $(TESTING)  ## run the tests, installing what they need (WORKERS=4 takes more cores)
	$(CALM) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(TESTING)  ## run the tests that take more than some seconds each
	$(CALM) $(BIN)/python -m pytest -m slow

lint: $(TESTING)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove what can be made again: caches, builds, .venv; data, runs and checkpoints stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find octavius datamodules tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

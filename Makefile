# make demo     create the environment and run the main job offline
# make test     the same environment, and the quick tests; the page of a report is opened in Chromium, which is taken from
#               the system's packages where there is none and that is allowed (else these tests are skipped, and say so)
# make test-all everything: all variants in all checks, examples drawn anew, every net of the grid for a step, and what
#               touches Hydra on its newest pre-release; half an hour, before a change of what it covers is called done
# make lint     style
# make results  redraw every table and figure of results/, README and docs/results.md from the committed records
# make site     build the documentation into site/, without a warning and without the network (make test does too)
# make docs     write docs/pools.md (with pictures), heads.md and models.md anew from docstrings and measurements
#
# PYTHON=python3.12     the interpreter to build the environment with (3.11 or newer)
# TORCH_INDEX=URL       take torch and torchvision from another index, as one of builds for CPUs (much smaller)

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The newest Hydra, pre-releases included, beside the environment's own: what composes and launches is tested on both.
HYDRA_NEXT := $(VENV)/hydra-next
ON_HYDRA := tests/test_configuration.py tests/sweep/test_grammar.py tests/sweep/test_plan.py tests/sweep/test_launch.py

# Else every process of the tests compiles all sources anew, where somebody has set it.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-all lint results docs site clean

demo: $(INSTALLED)
	$(BIN)/poolbench sweep sweep=demo

test: $(INSTALLED) $(VENV)/.browser
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope

test-all: $(INSTALLED) $(VENV)/.browser $(HYDRA_NEXT)/.installed
	POOLBENCH_TESTS=all $(BIN)/python -m pytest --numprocesses auto --dist loadscope
	$(BIN)/python scripts/check_grid.py --full --workers $(shell nproc 2>/dev/null || echo 1)
	PYTHONPATH=$(abspath $(HYDRA_NEXT)) $(BIN)/python -c 'import hydra; print("again on hydra-core", hydra.__version__); assert hydra.__version__ >= "1.4"'
	PYTHONPATH=$(abspath $(HYDRA_NEXT)) $(BIN)/python -m pytest --numprocesses auto --dist loadscope $(ON_HYDRA)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

results: $(INSTALLED)
	$(BIN)/python scripts/refresh_results.py

docs: $(INSTALLED)
	$(BIN)/python scripts/refresh_docs.py

site: $(INSTALLED)
	$(BIN)/python -m mkdocs build --strict

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python of 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX
	$(BIN)/python -m pip install --index-url $(TORCH_INDEX) "torch>=2.14" "torchvision>=0.29"
endif
	$(BIN)/python -m pip install --editable ".[dev]"
	@touch $@

$(VENV)/.browser: $(INSTALLED)
	@if command -v chromium chromium-browser google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ apt-get install -qq -y chromium || { apt-get update -qq && apt-get install -qq -y chromium; }; } >/dev/null 2>&1 \
		|| echo "make: Chromium could not be installed: tests in a browser are skipped" >&2; \
	else echo "make: no Chromium here and no leave to install it: tests in a browser are skipped" >&2; fi
	@touch $@

$(HYDRA_NEXT)/.installed: $(INSTALLED)
	rm -rf $(HYDRA_NEXT)
	$(BIN)/python -m pip install --pre --no-deps --target $(HYDRA_NEXT) "hydra-core>=1.4.0.dev0" "omegaconf>=2.4.0.dev0" \
		"hydra-submitit-launcher>=1.4.0.dev0"
	@touch $@

clean:
	rm -rf $(VENV) dist build site

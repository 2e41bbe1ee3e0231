PYTHON ?= python3
BIN := .venv/bin
RUN = $(BIN)/python -m
SHORT_EPOCH = trainer.max_epochs=1 data.batch_size=4 data.eval_batch_size=4 \
  $(foreach stage,train val test,++trainer.limit_$(stage)_batches=8)

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-all lint format docs docs-build smoke sweep autolabel-demo clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/runtime  ## .venv with everything that runs

train: .venv/runtime  ## set up, then train BiSeNetV2 on generated streets (minutes); model=NAME: one short epoch of another net
	$(RUN) src.train $(if $(model),model=$(model) $(SHORT_EPOCH)) $(args)

test: .venv/development  ## set up, then the fast tests
	$(RUN) pytest -n 2 --dist worksteal $(args)

test-slow: .venv/development  ## the tests that train for minutes
	$(RUN) pytest -m slow -n 2 --dist load --maxschedchunk 1 $(args)

test-all: test test-slow  ## all tests

lint: .venv/development  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

format: .venv/development  ## fix style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: docs-build  ## build the documentation and serve it: port=8000
	$(RUN) http.server --bind 127.0.0.1 --directory site $(or $(port),8000)

docs-build: .venv/development  ## build the documentation into site/; a broken link or an undocumented public name fails
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

smoke: .venv/runtime  ## one step of everything, in seconds
	$(RUN) src.train debug=one_batch

sweep: .venv/runtime  ## an ablation and its table, under 15 minutes on generated streets; name=NAME: one of conf/sweep
	$(RUN) src.sweep $(if $(name),sweep=$(name),jobs=2) $(args)

autolabel-demo: .venv/runtime  ## teacher, auto-labels and student on CamVid, three seeds, under an hour: camvid=FOLDER
	$(BIN)/python scripts/autolabel_demo.py --camvid $(or $(camvid),data/camvid) $(args)

clean:  ## remove .venv and caches; runs stay
	rm -rf .venv .pytest_cache .ruff_cache site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is `$(PYTHON) -V 2>&1`; Python 3.11 to 3.13 is needed, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: .venv/python requirements.txt
	$(RUN) pip install --disable-pip-version-check -q -r requirements.txt
	@touch $@

.venv/development: .venv/runtime requirements-dev.txt
	$(RUN) pip install --disable-pip-version-check -q -r requirements-dev.txt
	@touch $@

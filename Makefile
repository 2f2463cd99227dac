# `make demo` and `make test` install all dependencies in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# Tests of one file stay in one process, because they share the processes that the file starts.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast check bench stubs clean

demo: .venv/services
	rm -rf demo
	mkdir demo
	MASKMESH_TRACE_DIR=demo/traces $(BIN)/maskmesh segment tools/sample/clip.mp4 \
	  --point 110,262 --object 2 --point 530,185 --object 3 --point 330,62 \
	  --truth tools/sample/masks.json -o demo/overlay.mp4 --masks demo/masks.json
	$(BIN)/maskmesh report demo/traces -o demo/waterfall.png
	@echo
	MASKMESH_TRACE_DIR= $(BIN)/maskmesh segment tools/sample/table.mp4 \
	  --point 60,165 --object 2 --point 295,200 --object 3 --point 600,225 \
	  --truth tools/sample/table_masks.json -o demo/table.mp4 --masks demo/table_masks.json
	@echo
	@echo "To look at it in a browser: $(BIN)/maskmesh web --sample tools/sample/clip.mp4"

test: check
	$(PYTEST)

test-fast: check
	$(PYTEST) -m 'unit or in_process'

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .venv/import-linter

bench: .venv/dev
	$(BIN)/python -m tools.bench

stubs: .venv/dev
	$(BIN)/python protos/generate.py

clean:
	rm -rf .venv demo build *.egg-info

.venv/services: pyproject.toml constraints.txt maskmesh/nn/amx/attention.cpp
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[services]'
	$(BIN)/python -m maskmesh.nn.amx
	touch $@

.venv/dev: .venv/services
	$(BIN)/pip install --quiet -c constraints.txt -e '.[services,erase-model,train,dev]'
	touch $@

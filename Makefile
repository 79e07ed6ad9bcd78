# Every target sets up what it needs, in .venv: a machine with Python 3.10 or newer, pip and make is enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --no-input --disable-pip-version-check -c constraints.txt
# A process a core, up to four, each with whole files of tests: what a file's tests share is made once. The files keep
# their order: by their numbers of tests, those with few but long ones would come last, and only one process would work.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_BROWSER := $(VENV)/.ready-browser
READY_STUDIO := $(VENV)/.ready-studio
READY_ONNX := $(VENV)/.ready-onnx
READY_RUNTIME := $(VENV)/.ready-runtime
# onnxruntime-web for the page in the browser: downloaded, or RUNTIME=its folder or package file.
RUNTIME ?= fetch

.DELETE_ON_ERROR:
.PHONY: help demo studio site test test-slow test-precisions check bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(READY) ## paint a sample photograph as Starry Night
	mkdir -p out
	$(BIN)/impasto stylize examples/photo.jpg starry-night -o out/demo.png
	@echo "The painting is out/demo.png; the photograph is examples/photo.jpg."

studio: $(READY_STUDIO) ## open the studio, a page in the browser
	$(BIN)/impasto serve

site: $(READY_ONNX) ## write the page that paints in the browser: site/
	$(BIN)/impasto export --format web -o site --runtime $(RUNTIME)
	@echo "The page is in site/. To open it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

test: $(READY_DEV) $(READY_BROWSER) $(READY_RUNTIME) ## run the tests, without the slow ones
	$(BIN)/pytest $(PARALLEL)

test-slow: $(READY_DEV) $(READY_BROWSER) $(READY_RUNTIME) ## run all tests, the slow ones too
	$(BIN)/pytest $(PARALLEL) -m "slow or not slow"

# With two threads one process: several would wait for each other's cores.
test-precisions: $(READY_DEV) $(READY_BROWSER) ## run the tests in float32 and in bfloat16, with one thread and with two; takes long
	IMPASTO_PRECISION=float32 OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)
	IMPASTO_PRECISION=bfloat16 OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)
	IMPASTO_PRECISION=float32 OMP_NUM_THREADS=2 $(BIN)/pytest
	IMPASTO_PRECISION=bfloat16 OMP_NUM_THREADS=2 $(BIN)/pytest

check: $(READY_DEV) ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

bench: $(READY_DEV) ## run the benchmarks; DATASETS=DIR PAIRS=FILE TEACHER=FILE for those that need pictures, pairs and the teacher
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/loss_cost.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/network_speed.py
	$(BIN)/python benchmarks/export.py $(if $(DATASETS),--paintings $(DATASETS)/paintings/gallery $(if $(TEACHER),--judge $(TEACHER)))
	$(BIN)/impasto export --format web -o out/site --runtime $(RUNTIME)
	$(BIN)/python benchmarks/browser.py --site out/site
	$(BIN)/python benchmarks/tiled.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/video.py
ifdef DATASETS
	$(BIN)/python benchmarks/quality.py --paintings $(DATASETS)/paintings $(if $(TEACHER),--teacher $(TEACHER) --judge $(TEACHER))
	$(BIN)/python benchmarks/reference.py --paintings $(DATASETS)/paintings $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/schedules.py --paintings $(DATASETS)/paintings $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/equal_time.py --paintings $(DATASETS)/paintings $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/network.py styles --folder $(DATASETS) --heldout $(DATASETS)/heldout.txt $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/network_training.py --photos $(DATASETS)/photos --paintings $(DATASETS)/paintings
	$(BIN)/python benchmarks/flicker.py network --folder $(DATASETS) --heldout $(DATASETS)/heldout.txt
	$(BIN)/python benchmarks/pictures.py --folders $(DATASETS)/photos $(DATASETS)/paintings --exclude $(DATASETS)/heldout.txt
	$(BIN)/python benchmarks/seed_recipe.py --style $(DATASETS)/paintings/gallery/starry-night.jpg
ifdef PAIRS
	$(BIN)/python benchmarks/network.py pairs $(PAIRS) --folder $(DATASETS) --heldout $(DATASETS)/heldout.txt --trained 40 $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/network.py strength $(PAIRS) --folder $(DATASETS) --rows 1 6 11 16 21 26 31 36 $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/network.py learn $(PAIRS) --folder $(DATASETS) --rows 1 6 11 16 21 26 31 36 $(if $(TEACHER),--judge $(TEACHER))
	$(BIN)/python benchmarks/ladder.py $(PAIRS) --folder $(DATASETS) $(if $(TEACHER),--judge $(TEACHER))
endif
ifdef TEACHER
	$(BIN)/python benchmarks/encoder.py --teacher $(TEACHER) --photos $(DATASETS)/photos --paintings $(DATASETS)/paintings --heldout $(DATASETS)/heldout.txt
endif
endif

clean: ## remove what make made: .venv, caches, builds and the demo's painting
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis out/demo.png
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The package alone.
$(READY): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) -e .
	touch $@

# The package with the studio.
$(READY_STUDIO): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) -e '.[web]'
	touch $(READY) $@

# The package with what exports the network.
$(READY_ONNX): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) -e '.[onnx]'
	touch $(READY) $@

# With all extras and the tools; so the package alone is ready too.
$(READY_DEV): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) -e '.[dev]'
	touch $(READY) $(READY_STUDIO) $(READY_ONNX) $@

# The runtime of the page in the browser, for its tests: without it they are skipped and say so.
$(READY_RUNTIME): | $(READY_DEV)
	@$(BIN)/python -c 'from impasto.export.web.runtime import find_runtime; find_runtime("fetch")' 2> /dev/null || \
	  echo "onnxruntime-web is not to be had here: the tests of the page in the browser will be skipped"
	@touch $@

# The studio's page is tested in a browser: the one that is there, else Debian's where it can be installed, else none, and
# then those tests are skipped and say so.
$(READY_BROWSER): | $(VENV)/pyvenv.cfg
	@command -v chromium chromium-browser google-chrome > /dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get > /dev/null && timeout 300 apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install --no-install-recommends chromium > /dev/null; } || \
	  echo "no browser to be had here: the tests of the studio's page will be skipped"
	touch $@

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Impasto needs Python 3.10 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

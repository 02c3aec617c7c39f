# Everything a newcomer needs: `make quickstart` and `make test`. Needs Python 3.11 or newer.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart example example-add example-figure gpu-hour test test-lowest lint types docs site clean

$(VENV)/.gaprun: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.gaprun
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Draws the data, trains two methods with two seeds each side by side, measures, and says what was seen; more: report.html.
quickstart: $(VENV)/.gaprun
	$(BIN)/gaprun data scenes --out data/scenes
	$(BIN)/gaprun train recipes/quickstart.yaml
	$(BIN)/gaprun report
	$(BIN)/gaprun compare --summary
	@echo "Curves, clouds and examples: report.html. All methods, more seeds and real photos: docs/findings.md."

# Makes results.db.example again: the small tables and sweeps on drawn scenes (about four hours on two quiet cores) and, where
# data/flickr8k and data/cifar10 are there, the tables on photos (about five hours more). What CLIP-Refine starts from is a
# baseline of its own, kept apart in start.db.
SMALL := paper/small/table2 paper/small/table2-scaled paper/small/table3 paper/small/table5 paper/small/same-end \
	paper/small/soft-swap paper/small/longer sweeps/methods sweeps/own-towers sweeps/shared-tower
PHOTOS := paper/photos/table2 paper/photos/table3 paper/photos/swaps paper/photos/longer
example: $(VENV)/.gaprun
	$(BIN)/gaprun data scenes --out data/scenes
	for name in $(SMALL); do $(BIN)/gaprun train recipes/$$name.yaml --db example.db || exit 1; done
	$(BIN)/gaprun train recipes/baseline.yaml --set extends=recipes/base/scenes.yaml --seeds 100 --db start.db
	for rate in 4e-6 2e-4; do $(BIN)/gaprun train recipes/sweeps/clip-refine.yaml --set optimizer.lr=$$rate --db example.db || exit 1; done
	@if [ -d data/flickr8k ] && [ -d data/cifar10 ]; then \
	  for name in $(PHOTOS); do $(BIN)/gaprun train recipes/$$name.yaml --db example.db || exit 1; done; \
	else echo "Left out, without data/flickr8k and data/cifar10: $(PHOTOS) (docs/findings.md, Real photos)"; fi
	$(BIN)/python -m gaprun.store.publish example.db results.db.example
	$(MAKE) example-figure

# Adds the runs of other databases to results.db.example: make example-add FROM="photos.db methods.db". Of a run that several
# hold, the last one's counts. The file stays below 12 MB, and 3 MB compressed, which is what git transfers (a test looks).
example-add: $(VENV)/.gaprun
	$(BIN)/python -m gaprun.store.publish results.db.example $(FROM) results.db.example
	$(MAKE) example-figure

example-figure: $(VENV)/.gaprun
	$(BIN)/python -m gaprun.report.readme results.db.example docs/figures || echo "README's figure needs gaprun[figures]"

# What the first minutes on a GPU can tell: gpu_hour.md and gpu_hour.json in this folder (MINUTES=8 to change the time).
MINUTES ?= 8
gpu-hour: $(VENV)/.gaprun
	$(BIN)/python benchmarks/gpu_hour.py --minutes $(MINUTES)

# Tests run side by side, two at a time; real data is used where GAPRUN_TEST_DATA names it.
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The quick tests with the lowest versions that pyproject.toml names; a folder .lowest of 6 GB, and the network.
LOWEST := .lowest/bin
test-lowest:
	$(PYTHON) -m venv .lowest
	$(LOWEST)/pip install --quiet uv
	VIRTUAL_ENV=.lowest $(LOWEST)/uv pip install --quiet --resolution lowest-direct \
	  --editable '.[figures,mlflow,parquet,postgres,slurm,tensorboard,transformers]'
	VIRTUAL_ENV=.lowest $(LOWEST)/uv pip install --quiet pytest pytest-xdist hypothesis statsmodels selenium hatchling \
	  clip-benchmark mkdocs-material 'mkdocstrings[python]'
	$(LOWEST)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python -m gaprun.recipe.reference > docs/recipes.md
	$(BIN)/python -m gaprun.evaluation.reference docs/metrics.md
	$(BIN)/python -m gaprun.report.readme results.db.example docs/figures

# The docs as pages in site/; a broken link fails. Needs no network once the packages are there.
site: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:
	rm -rf $(VENV)

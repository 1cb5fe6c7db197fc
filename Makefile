# Everything a newcomer needs: `make demo`, `make test`. Each target installs what it lacks into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := build/peers
DATA ?= data
# Tests start many processes: what Python has compiled is kept, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test quick slow dist lint types install clean bench chromium

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

install: $(VENV)/.installed

demo: install
	rm -rf runs/demo
	$(BIN)/unlabeled pretrain digits --recipe digits/simclr --out runs/demo
	$(BIN)/unlabeled evaluate runs/demo --protocol linear:C=1 --labels 1 --labels 1% --labels 10% --labels 100% \
		--against pixels --against random

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The report's tests open it in a real browser. Root gets one or an error; who may not install one is told that these tests are
# skipped, but for CI (.ci/run), where they then fail.
chromium:
	@command -v chromium >/dev/null || if test "$$(id -u)" = 0; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	else echo "chromium is missing: the tests that need a browser are skipped, but fail in CI"; fi

test: lint types chromium
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The tests that take a moment.
quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# Which tests those are not, measured anew.
slow: $(VENV)/.installed-dev
	mkdir -p build
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=0 > build/durations.txt
	$(BIN)/python tests/slow.py < build/durations.txt
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=0 -m "not slow" > build/durations.txt
	$(BIN)/python tests/slow.py more < build/durations.txt

# A wheel and a source distribution in dist/; the tests run from the latter too.
dist: $(VENV)/.installed-dev
	rm -rf dist *.egg-info
	$(BIN)/python -m build

# Peers in a folder that only the benchmarks see, without what they depend on: torch and torchvision are the project's own.
$(PEERS)/.installed: Makefile $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(PEERS) \
		lightly==1.6.0 pytorch-metric-learning==2.9.0 kornia==0.9.0 kornia-rs==0.2.0
	touch $@

# The last two read Parquet files of a folder, DATA, as they say themselves; rows that are there are not made again.
bench: $(VENV)/.installed-dev $(PEERS)/.installed
	$(BIN)/python benchmarks/views.py --peers $(PEERS) --out results/views.json
	$(BIN)/python benchmarks/training.py --peers $(PEERS) --losses --out results/training.json
	$(BIN)/python benchmarks/losses.py --peers $(PEERS) --timeout 1500 --out results/losses.json
	$(BIN)/python benchmarks/accumulate.py --out results/accumulate.json
	$(BIN)/python benchmarks/knn.py --out results/knn.json
	$(BIN)/python benchmarks/large.py --out results/large.json
	$(BIN)/python benchmarks/steps.py --out results/steps.json
	$(BIN)/python benchmarks/gradients.py --out results/gradients.json
	$(BIN)/python benchmarks/kept.py --out results/kept.json
	$(BIN)/python benchmarks/curves.py --out results/curves.json
	$(BIN)/python benchmarks/pretext.py $(DATA) --out results/pretext
	$(BIN)/python benchmarks/pathology.py $(DATA) --out results/pathology

clean:
	rm -rf $(VENV) build dist *.egg-info runs

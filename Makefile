# make run · make test: all that a clean clone on Linux with Python 3.11+, make and git needs.
# make help lists the rest. Variables: PYTHON=python3.12, RUN_ARGS="--methods caan", TEST_ARGS="-k ranking",
# TEST_WORKERS=8 (processes that test side by side).

PYTHON ?= python3
VENV ?= .venv
RUN_ARGS ?= --seeds 0
TEST_ARGS ?=
TEST_WORKERS ?= 3
# What `make test-oldest` and `make test-newest` run: what touches most of the libraries' own surface, in minutes.
BOUND_TESTS ?= tests/config tests/data tests/evaluation tests/board tests/tracking tests/search/test_optuna_study.py tests/executors/test_executor.py
GPU_PYTHON ?= $(BIN)/python
GPU_WHEELS ?= gpu-wheels
GPU_ARGS ?=
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
SHELL := /bin/sh
# --no-compile: Python compiles what it imports anyway; compiling everything would double the time
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

# Where it is set, every worker would compile torch, ray and mlflow again, ten seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-oldest test-newest coverage check docs bench gpu gpu-wheels report soak wheel clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST)

run: $(VENV)/for-run ## install, then train, compare and rank methods on the embedded dataset
	$(BIN)/harness run $(RUN_ARGS)

test: $(VENV)/for-test ## install, then the fast tests (minutes)
	$(PYTEST) -m "not slow and not soak" $(TEST_ARGS)

test-slow: $(VENV)/for-test ## the tests of seconds each: whole campaigns, Ray, stores, processes that are killed
	$(PYTEST) -m "slow and not soak" $(TEST_ARGS)

coverage: $(VENV)/for-test ## fast and slow tests, and which lines they run
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	  $(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html:build/coverage $(TEST_ARGS)

test-oldest: build/oldest/installed ## some tests with the oldest versions that pyproject.toml allows
	build/oldest/bin/python -m pytest $(or $(TEST_ARGS),$(BOUND_TESTS))

test-newest: build/newest/installed ## some tests with the newest versions that pyproject.toml allows
	build/newest/bin/python -m pytest $(or $(TEST_ARGS),$(BOUND_TESTS))

build/oldest/installed: RESOLUTION := lowest-direct
build/newest/installed: RESOLUTION := highest
build/%/installed: pyproject.toml
	$(PYTHON) -m venv --clear build/$*
	build/$*/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/$*/bin/uv pip install --quiet --python build/$*/bin/python --resolution $(RESOLUTION) -e '.[test]'
	@touch $@

soak: $(VENV)/for-test ## the tests of minutes each
	$(BIN)/python -m pytest -m soak $(TEST_ARGS)

check: $(VENV)/for-dev ## ruff, mypy and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs harness methods datasets benchmarks

docs: $(VENV)/for-dev ## write the generated pages of docs/reference, build the site into build/site
	$(BIN)/python -P docs/generate.py docs/reference
	$(BIN)/python -P -m sphinx -q -W --keep-going -b html -c docs . build/site
	@echo "open build/site/index.html"

bench: $(VENV)/for-test ## speed and memory against the textbook algorithm
	$(BIN)/python benchmarks/ranking.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/opening.py
	$(BIN)/python benchmarks/converting.py
	$(BIN)/python benchmarks/extracting.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/reranking.py --images 400,1000 --k 32 --dim 256
	$(BIN)/python benchmarks/side_by_side.py
	$(BIN)/python benchmarks/search_simulation.py
	$(BIN)/python benchmarks/false_alarms.py

gpu: ## what only a GPU can show, in at most eight minutes; on a bare machine GPU_PYTHON=python3 and the wheels
	@for wheel in $(GPU_WHEELS)/*.whl; do test -e "$$wheel" || break; \
	  $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(GPU_WHEELS)/site "$$wheel"; done
	PYTHONPATH=$(GPU_WHEELS)/site $(GPU_PYTHON) benchmarks/gpu.py $(GPU_ARGS)

gpu-wheels: ## what `make gpu` needs beside torch and numpy on a machine without a network, Python 3.12 on x86-64
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
	  --platform manylinux2014_x86_64 -c constraints.txt -d $(GPU_WHEELS) \
	  annotated-types click filelock hypothesis iniconfig jinja2 joblib markdown-it-py markupsafe mdurl nltk packaging pillow \
	  pluggy pydantic pydantic-core pygments pytest regex rich sortedcontainers tqdm typing-extensions typing-inspection

report: $(VENV)/for-run ## write the leaderboards from the tracking store
	$(BIN)/harness report

wheel: $(VENV)/for-dev ## build a wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove the environment, builds and caches; runs/ and reports/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is missing or older; name another: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp file per purpose: nothing is installed again until what is to be installed has changed.
$(VENV)/for-run: EXTRA :=
$(VENV)/for-test: EXTRA := [test]
$(VENV)/for-dev: EXTRA := [dev]
$(VENV)/for-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): about a minute with a CPU build of torch, several where CUDA comes along"
	$(INSTALL) -e '.$(EXTRA)'
	@touch $@

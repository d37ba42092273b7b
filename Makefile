# make reproduce   the paper's tables and figures, into records/reproduce, and an office on real actors
# make test        the tests, without those that take long
# make test-ci     more examples of each property, and a fifth of the long tests, drawn each time
# make test-all    every test, and many examples of each property: about half an hour
# make properties  ten thousand random interleavings of everything that domains do to each other
# make lint        format, lint, types, which room may import which, and that modules were compiled
# make browser     what tests need to open reports in a browser, beside an installed Chromium
# make pictures    the pictures in docs/pictures, of real runs
# make manual      the pages in docs/ as a site, into build/manual
# make screenshots first screens of every kind of report, into build/screenshots; of some that are
#                  there, with REPORTS="records/reproduce/report/report.html ..."
#
# Each sets up .venv/ first if need be, which takes a minute and says what it does. PYTHON chooses the
# Python to set it up with. WORKERS says how many processes run tests. PYTEST_ADDOPTS="--seed N"
# repeats what another run, which showed that seed, drew.

PYTHON ?= python3
WORKERS ?= auto
BIN := .venv/bin
READY := .venv/ready
TOOLS := .venv/tools
PICTURES := reproduce replay compare place run explain sweep
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: reproduce test test-ci test-all properties lint format browser screenshots pictures manual protos constraints clean libraries compiled

# The paper's machines seldom have work at the same time, so that one process runs them in half the
# time that two actors take. The office runs on actors.
reproduce: $(READY)
	$(BIN)/lrpc reproduce --actors 0 --links memory --force --out records/reproduce
	$(BIN)/lrpc run office --force --out records/office

test: $(TOOLS)
	$(PYTEST) --long-share 0

test-ci: $(TOOLS)
	$(PYTEST) --long-share 0.2 --hypothesis-profile ci

test-all: $(TOOLS)
	LRPC_SEQUENCES=10000 $(PYTEST) --long-share 1 --hypothesis-profile all

properties: $(TOOLS)
	LRPC_SEQUENCES=10000 $(BIN)/python -m pytest tests/kernel/simulated/test_interleavings.py tests/cluster/test_five_domains.py

lint: $(TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! cc --version >/dev/null 2>&1 || env -u LRPC_INTERPRETED $(BIN)/python -c 'import sys; from lrpc.kernel import compiled; \
		compiled.runs_compiled() or sys.exit("a compiler is here, and did not compile: .venv/bin/python setup.py build_ext says why")'

format: $(TOOLS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

browser: $(TOOLS)
	@$(call needs,["optional-dependencies"]["pages"]) | $(INSTALL) -r /dev/stdin

screenshots: browser
	$(BIN)/python -m tests.support.pages build/screenshots $(REPORTS)

# First screens of real reports, for the pages.
pictures: browser
	$(BIN)/lrpc reproduce --actors 0 --links memory --force --out build/pictures/reproduce
	$(BIN)/lrpc replay workloads/traces/sample-trace.csv --machines 2 --force --out build/pictures/replay
	$(BIN)/lrpc report build/pictures/replay --force
	$(BIN)/lrpc place workloads/traces/sample-trace.csv --machines 2 --slack 1.7 --force --out build/pictures/found.toml --record build/pictures/place
	$(BIN)/lrpc report build/pictures/place/spread build/pictures/place/found --force --out build/pictures/compare/report
	$(BIN)/lrpc run office --actors 0 --links memory --force --out build/pictures/run
	$(BIN)/lrpc report build/pictures/run --force
	$(BIN)/lrpc explain Add --force --out build/pictures/explain/report
	$(BIN)/python -c 'from pathlib import Path; from tests.support.shown import file_of; print(file_of(Path("docs/measure.md"), "caches.toml"))' > build/pictures/caches.toml
	$(BIN)/lrpc sweep build/pictures/caches.toml --force --parallel 0 --out build/pictures/sweep
	$(BIN)/python -m tests.support.pages build/pictures/screens build/pictures/*/report/report.html
	mkdir -p docs/pictures
	for name in $(PICTURES); do cp build/pictures/screens/$$name-light-1600.png docs/pictures/$$name.png; done

# Strictly: a link that leads nowhere, or a docstring that cannot be read, ends it.
manual: $(TOOLS)
	@$(call needs,["optional-dependencies"]["docs"]) | $(INSTALL) -r /dev/stdin
	LRPC_INTERPRETED=1 $(BIN)/python -m sphinx -b html -W --keep-going -q docs build/manual

# As a script, so that generated code that no longer imports can be made again.
protos: $(TOOLS)
	$(BIN)/python protos/generate.py

# The newest versions that pyproject.toml allows, found in an environment of their own.
constraints:
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	LRPC_INTERPRETED=1 build/constraints/bin/python -m pip install --quiet --editable '.[test,pages,docs]'
	echo '# Exact versions of everything that is installed here. Remade by: make constraints' > build/constraints.txt
	build/constraints/bin/python -m pip freeze --all --exclude lrpc --exclude pip >> build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf $(READY) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
	find . -name .venv -prune -o -name '*.so' -exec rm -f {} +

# Set-up. .venv/ready is there when lrpc can run, and .venv/tools when it can be tested as well. A
# stamp is away while anything is being changed: a set-up that failed begins again from an empty
# .venv/.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Byte code is written as modules are first imported: of the libraries, few ever are.
export PIP_COMPILE := no
export PYTHONDONTWRITEBYTECODE :=
# $(call needs,KEYS): what pyproject.toml lists there, a line each.
needs = $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]$(1), sep="\n")'
# What must be compiled again when it changes.
SOURCES := setup.py mypyc.ini compiled-modules.txt kernel/host/native.c kernel/host/transfer.h $(shell grep -v '^\#' compiled-modules.txt)

$(READY): pyproject.toml constraints.txt $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("lrpc needs Python 3.11 or newer: make PYTHON=...")'
	@test -f $@ || echo 'Making an empty .venv (5 seconds)'
	@test -f $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@$(MAKE) --no-print-directory -j2 libraries compiled
	@$(BIN)/python -c 'from lrpc.kernel import compiled; print(compiled.in_words())'
	@touch $@

$(TOOLS): $(READY)
	@echo 'Installing the tools that test and check lrpc (20 seconds)'
	@rm -f $@
	@$(call needs,["optional-dependencies"]["test"]) | $(INSTALL) -r /dev/stdin
	@touch $@

# The two halves of a set-up, made at the same time.
libraries:
	@echo 'Installing the libraries that lrpc uses (40 seconds, and the time to download 200 MB)'
	@$(call needs,["dependencies"]) | $(INSTALL) -r /dev/stdin

compiled:
	@echo 'Compiling lrpc, where there is a C compiler (40 seconds)'
	@$(INSTALL) --no-deps --editable .

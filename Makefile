# make run                    the benchmark of config/embedded.yaml
# make run CONFIG=my.yaml     another configuration; SUITE=NAME runs one of its suites alone
# make test                   the test suite
CONFIG ?= config/embedded.yaml
PYTHON ?= python3
VENV := .venv
# Byte code makes every job's imports faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test setup docs lock audit clean

run: $(VENV)/.installed
	@. $(VENV)/bin/activate && latticebench config $(CONFIG) --warm -- snakemake --configfile $(CONFIG) $(if $(SUITE),--config suite=$(SUITE))

test: $(VENV)/.installed
	@. $(VENV)/bin/activate && OMP_NUM_THREADS=1 python -m pytest -n 2

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; found " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-uv.lock
	$(VENV)/bin/uv pip install --python $(VENV)/bin/python --compile-bytecode --require-hashes -r requirements.lock
	$(VENV)/bin/uv pip install --python $(VENV)/bin/python --quiet --no-deps -e .
	@touch $@

docs: $(VENV)/.installed
	@. $(VENV)/bin/activate && mkdocs build

# Takes new versions of the dependencies within pyproject.toml's bounds; needs the package index.
lock:
	$(VENV)/bin/uv lock --upgrade
	$(VENV)/bin/uv export --quiet --all-extras --no-emit-project --no-header -o requirements.lock

# Known vulnerabilities of the locked dependencies; needs the package index and its advisories.
audit: $(VENV)/.installed
	@$(VENV)/bin/python -m tests.hostile.audit requirements.lock --uv $(VENV)/bin/uv

clean:
	rm -rf $(VENV)

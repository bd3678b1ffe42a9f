# make demo: build a corpus, index it, ask five questions. make test: the tests. make check: what CI runs.
#
# Each sets up its own .venv the first time. PYTHON picks the interpreter, FAISS=gpu the GPU build of FAISS, and
# PIP_OPTIONS goes to pip as it is, for example to name an index with CPU builds of torch.

PYTHON ?= python3
FAISS ?= cpu
PIP_OPTIONS ?=
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --constraint constraints.txt
RUN = .venv/bin/python

.PHONY: demo test check format docs clean

demo: .venv/installed
	$(RUN) -m examples.demo demo

test: .venv/installed-dev
	$(RUN) -m pytest

check: .venv/installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy moca_rag indexer train cli
	$(RUN) -m mypy benchmarks
	$(MAKE) test
	$(MAKE) demo

format: .venv/installed-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: .venv/installed-dev
	$(RUN) -m tests.house.test_docs
	$(RUN) -m examples.demo demo
	$(RUN) -m examples.pictures demo docs

clean:
	rm -rf .venv build demo *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "moca_rag needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[$(FAISS)]'
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[$(FAISS),dev]'
	touch $@

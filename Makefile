# make image   build the QEMU image and boot it until its Kubernetes node is Ready
# make check   pass every test
# Both first install what this computer lacks, and both may be interrupted and run again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/complete
RECIPE := recipes/images/qemu-arm64.yaml
IMAGE := qemu-arm64
APT := DEBIAN_FRONTEND=noninteractive apt-get -q
# The tests that take minutes: they assemble root file systems, bring real clusters up and start QEMU.
SUITES := build lab boot

.PHONY: help image check lint fast slow tools venv lock dist clean

help:
	@sed -n 's/^# //p' Makefile | head -3

image: tools
	$(BIN)/cumulet build $(RECIPE)
	$(BIN)/cumulet boot --until ready $(IMAGE)

check: tools lint fast slow

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OELINT_CONFIG=layers/oelint.cfg $(BIN)/oelint-adv \
		$$(find layers -name '*.bb' -o -name '*.bbappend' -o -name '*.bbclass' -o -name '*.conf' -o -name '*.inc')

fast: venv
	$(BIN)/pytest -n auto -m "not build and not boot and not lab"

slow: tools
	for suite in $(SUITES); do $(BIN)/pytest -m $$suite; done

# The programs that come from Debian packages. Without root, doctor says what to install.
tools: venv
	if [ "$$(id -u)" = 0 ]; then $(BIN)/cumulet doctor --for check --fix; else $(BIN)/cumulet doctor --for check; fi

# The stamp is written last and says what the environment was made from, so that a half-made,
# outdated or moved one is made anew.
venv:
	@want="$$($(PYTHON) -c 'import sys; print(sys.version)' | tr -d '\n') $(CURDIR) $$(cat requirements.lock pyproject.toml | sha256sum)"
	if [ "$$(cat $(STAMP) 2>/dev/null)" = "$$want" ]; then exit 0; fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
		echo "error: $(PYTHON) is older than 3.11"; echo "hint: make PYTHON=python3.11"; exit 3
	fi
	if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
		$(APT) update || true
		$(APT) install -y --no-install-recommends python3-venv ca-certificates
	fi
	echo "making .venv"
	rm -f $(STAMP)
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	echo "$$want" > $(STAMP)
.ONESHELL:

# New pins of every Python package. The index is the one that pip and uv are set up for here.
lock: venv
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra vm --extra yocto --extra go --extra modem --extra arrays --extra dask --extra examples --extra hub --extra gpu --extra inference --extra traces --group dev --no-emit-index-url \
		--custom-compile-command "make lock" -q -o requirements.lock
	$(BIN)/uv pip compile recipes/inference/tflite.in --python-version 3.11 --generate-hashes --upgrade \
		--universal --no-emit-index-url \
		--custom-compile-command "make lock" -q -o recipes/inference/tflite.lock

dist: venv
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf .venv dist out .mypy_cache .pytest_cache .ruff_cache

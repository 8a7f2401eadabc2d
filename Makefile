# Two commands do everything: `make demo` and `make test`. Each sets up what it needs and says what it does.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := rust/Cargo.toml rust/Cargo.lock $(shell find rust/src -name '*.rs' 2>/dev/null)
NATIVE := $(VENV)/.native
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup build demo test check format lint type house rust docs bench faults floods soak fuzz peers browser lock clean

help:
	@echo "make demo     set up, then rehearse the outage of 2025-11-18 and print what users saw"
	@echo "make test     set up, then run the tests"
	@echo "make check    format, lint, types, house rules, Rust tests, Python tests, docs tests"
	@echo "make bench    the benchmarks, an hour; results go to bench/results"
	@echo "make peers    install the servers and tools to compare with, starting none (needs root)"
	@echo "make faults   what users see while one upstream of two is sick: ours and the peers (20 minutes)"
	@echo "make floods   a well-behaved client beside four floods"
	@echo "make soak     faults, reloads, purges and plan changes at once (12 minutes; MINUTES=N)"
	@echo "make fuzz     drive the readers of strangers' bytes, 10 million executions (needs cargo-fuzz)"
	@echo "make browser  install Chromium, for tests in a browser (needs root)"
	@echo "make lock     renew requirements.lock from pyproject.toml"

setup: $(NATIVE)

$(VENV)/.python: requirements.lock
	@echo "== making $(VENV) and installing the locked packages"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polycdn needs Python 3.11 or newer; try: make PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(NATIVE): $(VENV)/.python pyproject.toml $(RUST_SOURCES)
	@command -v cargo >/dev/null || { echo "cargo is missing; install Rust 1.85 or newer"; exit 2; }
	@echo "== building the engine (Rust, release; a few minutes the first time)"
	@cd rust && cargo fetch --quiet --locked || true
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --skip-install
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

build: setup

demo: setup
	@$(BIN)/polycdn demo

test: setup
	@echo "== Rust tests"
	@cd rust && cargo test --locked --quiet
	@echo "== Python tests, two at a time, the docs among them"
	@$(BIN)/pytest -n 2 -m "not alone"
	@echo "== Python tests that need the machine for themselves"
	@$(BIN)/pytest -n 0 -m alone

check: setup format lint type house test

format: setup
	@echo "== format"
	@$(BIN)/ruff format --check src tests bench
	@cd rust && cargo fmt --check

lint: setup
	@echo "== lint"
	@$(BIN)/ruff check src tests bench
	@cd rust && cargo clippy --locked --quiet --all-targets -- -D warnings
	@cd rust && cargo clippy --locked --quiet --features pyo3 -- -D warnings

type: setup
	@echo "== types"
	@$(BIN)/mypy

house: setup
	@echo "== house rules"
	@$(BIN)/pytest tests/test_house.py

docs: setup
	@$(BIN)/pytest tests/test_docs.py

bench: setup
	@$(BIN)/python bench/detect/run.py
	@$(BIN)/python bench/simulate/run.py
	@$(BIN)/python bench/rehearse/run.py
	@$(BIN)/python bench/rehearse/kinds.py
	@$(BIN)/python bench/throughput/run.py
	@$(BIN)/python bench/audit/run.py

faults: setup
	@$(BIN)/python bench/faults/run.py
	@$(BIN)/python bench/faults/moving.py
	@$(BIN)/python bench/faults/amplification.py

floods: setup
	@$(BIN)/python bench/floods/run.py

MINUTES ?= 10
soak: setup
	@$(BIN)/python bench/soak/run.py --minutes $(MINUTES)

# No sanitizer: the crate forbids unsafe code, what is looked for are broken claims. So the stable compiler does.
# What libFuzzer finds worth keeping goes into fuzz/target, not into the corpus.
FUZZ_TARGETS := $(notdir $(basename $(wildcard fuzz/targets/*.rs)))
FUZZ_EXECUTIONS ?= 1000000

fuzz:
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing; try: cargo install --locked cargo-fuzz"; exit 2; }
	@for name in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/target/found/$$name; echo "== $$name"; \
	  (cd fuzz && cargo fuzz run --fuzz-dir . --sanitizer none $$name target/found/$$name corpus/$$name \
	    -- -runs=$(FUZZ_EXECUTIONS) -max_len=2048 -timeout=10 -print_final_stats=1 -verbosity=0) || exit 1; \
	done

peers:
	@sh bench/install_peers.sh

browser:
	apt-get update -qq && apt-get install -y -qq chromium

lock:
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --universal \
	  --python-version 3.11 --no-header --no-annotate --quiet -o requirements.lock

clean:
	rm -rf $(VENV) rust/target build dist

# Every command a developer, an operator's image and CI use. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml 2>/dev/null)
RUN := $(BIN)/python -m
RESULTS := artifacts/conformance
SPEC ?= rspp/pipeline/examples/front-desk.yaml
ROLLOUT ?= rspp/pipeline/examples/front-desk.rollout.yaml

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------ set-up

.PHONY: toolchains
toolchains:
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or newer is needed (PYTHON=$(PYTHON))" >&2; \
	       echo "hint: install it, or name another one: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@command -v cargo >/dev/null \
	  || { echo "error: no Rust toolchain: cargo is not on the PATH" >&2; \
	       echo "hint: install Rust 1.88 or newer with rustup or your system's packages, then run make again" >&2; exit 2; }

.venv/packages.stamp: constraints.txt pyproject.toml | toolchains
	@echo "setup: Python packages (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt maturin
	@touch $@

.venv/build.stamp: .venv/packages.stamp $(RUST_SOURCES)
	@echo "setup: kernel, release build (about a minute the first time)"
	@PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt VIRTUAL_ENV=$(CURDIR)/.venv \
	  $(BIN)/maturin develop --release --quiet --extras dev
	@touch $@

.PHONY: setup
setup: .venv/build.stamp ## create .venv with the commands, build the kernel in release mode

.PHONY: server
server: setup ## find the LiveKit server, or build the pinned release into the user's cache
	@$(RUN) rspp.tooling.livekit_server --ensure

# ------------------------------------------------------------------ the main job

.PHONY: demo
demo: setup ## set everything up, then hold the scripted call in a real LiveKit room
	@$(RUN) rspp.tooling.demo

.PHONY: bench-room
bench-room: server ## measure the call's latencies at an independent caller in a real room
	@$(RUN) rspp.tooling.bench_room

.PHONY: bench-sessions
bench-sessions: setup ## twenty calls at once in one process, over the loopback
	@$(RUN) rspp.tooling.bench_sessions

.PHONY: drill-takeover
drill-takeover: server ## kill and pause the speaking runtime in a real room; show who is heard
	@$(RUN) rspp.tooling.drill_takeover

.PHONY: drill-evidence
drill-evidence: server ## kill the runtime at random moments of twenty calls in real rooms; read back and replay
	@$(RUN) rspp.tooling.drill_evidence

# ------------------------------------------------------------------ checks

.PHONY: format
format: setup ## format Python and Rust
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cargo fmt --all

.PHONY: lint
lint: setup ## formatting, linting and types of both languages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest rspp._kernel
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

.PHONY: test-rust
test-rust: setup ## the kernel's own tests
	@mkdir -p $(RESULTS)
	@echo "cargo test --workspace"; cargo test --workspace >$(RESULTS)/results-rust.txt 2>&1 \
	  || { cat $(RESULTS)/results-rust.txt; exit 1; }
	@awk '/^test result:/ { passed += $$4 } END { print passed " passed" }' $(RESULTS)/results-rust.txt

.PHONY: test
test: setup ## every Python test that needs no LiveKit server
	$(BIN)/pytest -m "not room" -n 2 --conformance=$(RESULTS)/results-python.json

.PHONY: test-room
test-room: server ## the tests in real LiveKit rooms
	$(BIN)/pytest -m room -p no:xdist --conformance=$(RESULTS)/results-room.json

.PHONY: test-failover
test-failover: setup ## the quick set of the failure matrix: F1, F3, F7
	$(BIN)/pytest tests/failover -m "quick and not room"

.PHONY: validate-contracts
validate-contracts: setup ## run every contract fixture through the three validators
	@$(BIN)/rspp-cli validate-contracts

.PHONY: contracts-report
contracts-report: setup ## the same, with a report
	@$(BIN)/rspp-cli validate-contracts-report

.PHONY: replay-smoke
replay-smoke: setup ## replay the golden recordings of the quick gate
	@$(BIN)/rspp-cli replay-smoke-report

.PHONY: replay-regression
replay-regression: setup ## replay every golden recording of the full gate
	@$(BIN)/rspp-cli replay-regression-report

.PHONY: runtime-baseline
runtime-baseline: setup ## hold real sessions and write the evidence of their turns
	@$(BIN)/rspp-cli generate-runtime-baseline

.PHONY: slo-gates
slo-gates: runtime-baseline ## compute the six service gates from that evidence
	@$(BIN)/rspp-cli slo-gates-report

.PHONY: release-manifest
release-manifest: contracts-report replay-regression slo-gates ## release the pipeline SPEC=FILE as ROLLOUT=FILE says, if these reports allow it
	@$(BIN)/rspp-cli publish-release "$(SPEC)" "$(ROLLOUT)"

.PHONY: conformance
conformance: test-rust server ## run the tests that carry ids of the contracts, and make their table
	@rm -f $(RESULTS)/results-python.json $(RESULTS)/results-room.json
	-$(BIN)/pytest -m "conformance and not room" -n 2 --conformance=$(RESULTS)/results-python.json
	-$(BIN)/pytest -m "conformance and room" -p no:xdist --conformance=$(RESULTS)/results-room.json
	@$(RUN) rspp.tooling.conformance --results $(RESULTS)

.PHONY: conformance-table
conformance-table: setup ## make the table from what the test targets left, without running a test
	@$(RUN) rspp.tooling.conformance --results $(RESULTS)

.PHONY: simulate-short
simulate-short: toolchains ## twenty seconds of worlds with faults, and all interleavings of four operations
	@cargo run --release --quiet -p rspp-sim -- --seconds 20
	@cargo run --release --quiet -p rspp-sim -- --depth 4

.PHONY: simulate
simulate: toolchains ## half an hour of worlds, new seeds with each run, and all interleavings of five operations
	@cargo run --release --quiet -p rspp-sim -- --depth 5
	@cargo run --release --quiet -p rspp-sim -- --seconds 1800 --from $$(date +%s)000

.PHONY: verify-quick
verify-quick: lint validate-contracts contracts-report replay-smoke slo-gates test-rust test ## what a developer runs every few minutes; `test` holds the quick failure matrix

.PHONY: verify-full
verify-full: lint validate-contracts contracts-report replay-smoke replay-regression slo-gates release-manifest test-rust simulate-short test test-room conformance-table drill-takeover drill-evidence ## everything, with real rooms

.PHONY: bench
bench: setup ## kernel and session benchmarks of the release build
	cargo bench --workspace --quiet
	$(BIN)/pytest tests/bench --benchmark-enable --benchmark-only --override-ini addopts=-q
	$(RUN) tests.bench.edge_hop
	$(RUN) tests.bench.evidence_load

.PHONY: clean
clean: ## remove everything that make built in this folder
	rm -rf .venv target artifacts rspp/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Everything is installed into .venv, from the lock. PYTHON picks the interpreter (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
ANSWER ?=
# Tests with a target of their own.
OTHERS := --ignore tests/test_chaos.py --ignore tests/test_fuzz.py --ignore tests/test_fuzz_activities.py \
	--ignore tests/test_bench.py --ignore tests/ui --ignore tests/bench

.PHONY: demo up test test-long test-bench fuzz test-ui chaos bench test-bench-all check lock clean

demo: .venv/installed
	@$(BIN)/python starter.py demo $(if $(ANSWER),--answer $(ANSWER))

up: .venv/installed
	@$(BIN)/python starter.py up

test: .venv/installed
	$(BIN)/python -m pytest -q -n 6 -m "not long" $(OTHERS) $(ARGS)

# What takes long; and what wants the machine to itself: workers killed at every point and under 40 runs, and a thousand
# odd payloads.
test-long: .venv/installed
	$(BIN)/python -m pytest -q -n 6 -m long $(OTHERS)
	$(BIN)/python -m pytest -q tests/test_chaos.py tests/test_fuzz.py tests/test_fuzz_activities.py -k "not ten_thousand"

# The benchmarks' smoke runs.
test-bench: .venv/installed
	$(BIN)/python -m pytest -q tests/test_bench.py

# Sends ten thousand odd payloads to waiting runs, and ten thousand signals to one; ends five hundred activities by hand,
# and makes as many odd starts.
fuzz: .venv/installed
	MESSAGES=10000 $(BIN)/python -m pytest -q -s tests/test_fuzz.py tests/test_fuzz_activities.py $(ARGS)

# Drives the Temporal UI in a headless Chromium, which has to be there: apt-get install chromium.
# SCREENSHOTS=<directory> keeps what it saw.
test-ui: .venv/installed-ui
	$(BIN)/python -m pytest -q tests/ui $(ARGS)

# Kills workers at every point of the journal, then at random until KILLS have died (or during RUNS runs), under runs with
# every other fault there is (FAULTS chooses); then under one run of 300 prompts; races prompts against the end of runs,
# and starts against each other.
chaos: .venv/installed
	$(BIN)/python -m tests.chaos --kills $(or $(KILLS),1000) --faults $(or $(FAULTS),all) $(if $(RUNS),--runs $(RUNS))
	TURNS=300 STARTS=100 RACES=300 EDITS=3000 $(BIN)/python -m pytest -q --timeout 1800 tests/test_growing.py tests/test_carried.py \
		tests/test_sessions_runs.py tests/test_deltas.py

# Measures what Abeyance costs, beside bare Strands, a floor and a competitor, into bench/results/ and docs/. It wants the
# machine to itself for about an hour. ARGS=--quick is a smoke run of some minutes, ARGS="--only latency,history" chooses.
bench: .venv-bench/installed .venv-competitor/installed
	.venv-bench/bin/python -m bench $(ARGS)

# The benchmarks' smoke runs that need the competitor and the plots.
test-bench-all: .venv-bench/installed .venv-competitor/installed
	.venv-bench/bin/python -m pytest -q tests/bench $(ARGS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Abeyance needs Python 3.11 or later; set PYTHON=python3.11 or the like.")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed-ui: requirements-ui.lock .venv/installed
	$(BIN)/python -m pip install -q --require-hashes -r requirements-ui.lock
	@touch $@

.venv-bench/installed: requirements.lock requirements-bench.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q --require-hashes -r requirements.lock
	.venv-bench/bin/python -m pip install -q --require-hashes -r requirements-bench.lock
	@touch $@

.venv-competitor/installed: requirements-competitor.lock
	$(PYTHON) -m venv .venv-competitor
	.venv-competitor/bin/python -m pip install -q --require-hashes -r requirements-competitor.lock
	@touch $@

# Needs uv. `make lock UPGRADE=--upgrade` takes newer versions.
lock:
	uv pip compile -q --universal --python-version 3.11 --extra dev --generate-hashes --no-annotate $(UPGRADE) \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 -c requirements.lock --generate-hashes --no-annotate \
		--custom-compile-command "make lock" pyproject.toml -o requirements-runtime.lock
	uv pip compile -q --universal --python-version 3.11 --group ui -c requirements.lock --generate-hashes --no-annotate \
		$(UPGRADE) --custom-compile-command "make lock" -o requirements-ui.lock
	uv pip compile -q --universal --python-version 3.11 --group bench -c requirements.lock --generate-hashes --no-annotate \
		$(UPGRADE) --custom-compile-command "make lock" -o requirements-bench.lock
	grep -oE '^(strands-agents|temporalio|pydantic)==[^ ]+' requirements.lock | \
		uv pip compile -q --universal --python-version 3.11 --group competitor -c /dev/stdin --generate-hashes --no-annotate \
		$(UPGRADE) --custom-compile-command "make lock" -o requirements-competitor.lock

clean:
	rm -rf .venv .venv-bench .venv-competitor .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Every target creates .venv from the lock first; nothing outside this folder is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# The commands in .venv know the folder in which they were made: in a moved or copied one they are made anew.
$(shell [ "$$(cat $(VENV)/.place 2>/dev/null)" = "$$(pwd)" ] || rm -f $(VENV)/.run-ready $(VENV)/.dev-ready)

.PHONY: run test demo soak bench lint lock clean

run: $(VENV)/.run-ready
	$(BIN)/mailboxd run $(ARGS)

demo: $(VENV)/.run-ready
	$(BIN)/mailboxd demo $(ARGS)

# A file's tests stay together: many share what they set up. Two workers: the tests start mailboxes of their own.
test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

soak: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m slow -s $(ARGS)

# Some minutes; figures go to build/bench.json, tables and pictures to docs/benchmarks (with ARGS=--quick: not these).
bench: $(VENV)/.run-ready
	$(BIN)/mailboxd bench all --report docs/benchmarks $(ARGS)

# libp2p drags in trio-typing, whose stubs for an old trio would hide trio's own types from the type checker.
lint: $(VENV)/.dev-ready
	rm -rf $(VENV)/lib/python3*/site-packages/trio-stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(VENV)/.dev-ready
	./scripts/lock.sh

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.run-ready: requirements.lock pyproject.toml
	PYTHON=$(PYTHON) ./scripts/setup.sh requirements.lock
	touch $@

$(VENV)/.dev-ready: requirements-dev.lock pyproject.toml
	PYTHON=$(PYTHON) ./scripts/setup.sh requirements-dev.lock
	touch $@ $(VENV)/.run-ready

# Two commands matter: `make demo` and `make test`. Both do all set-up by themselves.
.DEFAULT_GOAL := help
.PHONY: help setup images vendor test faults check demo demo-stop bench lock lock-check format clean stop-engine
PY := .venv/bin/python
# Test files side by side; WORKERS=0 runs them one after another, in one process.
WORKERS ?= 3

help:
	@echo "make demo          set up, then show the gateway's main job on real parts (KEEP=1 leaves it running)"
	@echo "make demo-stop     end a demo that KEEP=1 left running, and remove all that it made"
	@echo "make test          set up, then run every test, those on the real engine, broker and registry included"
	@echo "make faults        the fault campaigns in full, hours long; goes on where it stopped (ONLY=name, SHARD=1/4)"
	@echo "make check         formatter, linter, types, import boundaries, file sizes"
	@echo "make bench         measure, and write build/bench.json"
	@echo "make setup         packages, virtual environment, Docker engine (NO_INSTALL=1: only say what is missing)"
	@echo "make images        the base images ec/busybox:1 and ec/python:3, where they are missing"
	@echo "make lock          write the lock files anew (UPGRADE=1: with newer versions), and check the wheels"
	@echo "make format        let the formatter and the linter mend what they can"
	@echo "make stop-engine   stop the Docker engine, if set-up started it"
	@echo "make clean         remove what was built here"

setup:
	@sh deploy/setup/setup.sh

images: setup
	@sh deploy/images/build.sh

vendor: setup
	@$(PY) -m deploy.images.vendor

test: setup images vendor
	$(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

faults: setup images
	$(PY) -m tests.faults $(if $(ONLY),--only $(ONLY)) $(if $(SHARD),--shard $(SHARD)) $(ARGS)

check: setup
	@sh deploy/setup/check.sh

demo: setup images vendor
	@KEEP=$(KEEP) $(PY) -m deploy.demo $(ARGS)

demo-stop:
	@$(PY) -m deploy.demo stop

bench: setup images vendor
	$(PY) -m tests.bench $(ARGS)

lock:
	@sh deploy/setup/lock.sh $(if $(UPGRADE),--upgrade)
	@$(MAKE) --no-print-directory lock-check

lock-check:
	@$(PY) -m deploy.setup.wheels

format:
	@$(PY) -m ruff check --fix --quiet . || true
	@$(PY) -m ruff format .

stop-engine:
	@sh deploy/setup/engine.sh stop

clean:
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info apps/*/vendor
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +; fi
	@find agent apps cloud_stub deploy tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@echo "clean: done (build/lab stays: it belongs to a Docker engine that may run; images stay too)"

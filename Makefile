# Two commands need nothing else on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench nightly up screenshots setup build lock clean python-checks rust-checks rust-tests python-tests
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

PY := .venv/bin/python
# what make demo makes and make up shows
PROJECT ?= demo
# where make demo and make up keep objects and index: embedded (folders of PROJECT) or real (S3 and OpenSearch, as the
# project PROJECT-real, whose servers start with the command, end with it, and keep their data in PROJECT-real/.servers)
BACKEND := embedded
# worker processes of pytest; 0 runs everything in one
WORKERS ?= 2
# pytest arguments, for example: make test ARGS="-k search"
ARGS ?=

# OpenSearch and S3 for one command, thrown away afterwards
SERVERS := $(PY) -m deploy.services run
ifeq ($(BACKEND),real)
SUFFIX := -real
BESIDE := $(SERVERS) --data $(PROJECT)-real/.servers --
SETUP_BACKEND := servers
else ifneq ($(BACKEND),embedded)
$(error BACKEND is embedded or real, not '$(BACKEND)')
endif
QUIETLY := . deploy/lib.sh; quietly
# overflow and debug assertions for our crate only: its dependencies stay those that the build compiled
CARGO_CHECKED := --release --config profile.release.package.datago.overflow-checks=true \
	--config profile.release.package.datago.debug-assertions=true

help: ## list these targets
	@echo 'make TARGET [PROJECT=demo] [BACKEND=embedded|real] [WORKERS=2] [ARGS=…] [V=1 shows the output of every part]'
	@echo
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-10s %s\n", $$1, $$2}'

demo: ## real photographs from raw to training shards in ./demo; a second run recomputes nothing
	@deploy/setup.sh pictures $(SETUP_BACKEND)
	@deploy/build.sh
	@$(BESIDE) $(PY) -m assets.demo --project $(PROJECT)$(SUFFIX) --backend $(BACKEND)

test: ## everything a change must pass: check, cargo test, pytest beside real servers (without the heavy marks)
	@deploy/setup.sh test servers
	@deploy/build.sh
	@$(MAKE) python-checks rust-checks rust-tests python-tests

check: ## ruff, mypy, cargo fmt and clippy
	@deploy/setup.sh
	@deploy/build.sh
	@$(MAKE) python-checks rust-checks

bench: ## every benchmark in its quick form; BENCH=name runs one
	@deploy/setup.sh servers
	@deploy/build.sh
	@for bench in $(or $(BENCH),$(basename $(notdir $(wildcard benchmarks/[a-z]*.py)))); do \
		echo "── $$bench"; $(PY) -m "benchmarks.$$bench" --quick $(ARGS) || exit; done

nightly: ## the long tests (heavy marks), fuzzing for over an hour, then the quick tests
	@deploy/setup.sh test servers
	@deploy/build.sh
	@$(SERVERS) -- $(PY) -m pytest -m heavy --timeout 7200 $(ARGS)
	@deploy/fuzz.sh 300
	@$(MAKE) test

up: ## the Dagster UI with its daemon and the viewer on this machine, for PROJECT
	@deploy/setup.sh $(SETUP_BACKEND)
	@deploy/build.sh
	@$(BESIDE) $(PY) -m assets.up --project $(PROJECT) --backend $(BACKEND)

screenshots: demo ## the pictures of the viewer in docs/images, of the project that make demo makes
	@deploy/setup.sh test
	@$(PY) tests/ui/save_viewer.py $(PROJECT)$(SUFFIX) docs/images

setup: ## system packages (as root) and .venv as requirements.lock says
	@deploy/setup.sh

build: ## compile datago and install refinery into .venv
	@deploy/setup.sh
	@deploy/build.sh

lock: ## resolve pyproject.toml anew into requirements.lock, and the benches' peers into benchmarks/peers.lock
	@. deploy/lib.sh; find_uv; for pair in 'pyproject.toml requirements.lock' 'benchmarks/peers.in benchmarks/peers.lock'; do \
		set -- $$pair; case $$1 in *.toml) extras=--all-extras ;; *) extras= ;; esac; quietly "resolving $$2" "$$uv" pip compile "$$1" \
		$$extras --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 --upgrade -o "$$2"; done

clean: ## remove .venv, what was built, ./demo and ./demo-real; caches outside the checkout stay
	@rm -rf .venv demo demo-real build dist datago/_core*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- parts

python-checks:
	@$(QUIETLY) 'ruff check' .venv/bin/ruff check --quiet
	@$(QUIETLY) 'ruff format' .venv/bin/ruff format --check --quiet
	@$(QUIETLY) 'mypy' .venv/bin/mypy

rust-checks:
	@$(QUIETLY) 'cargo fmt' deploy/rust.sh cargo fmt --manifest-path datago/Cargo.toml --check
	@$(QUIETLY) 'cargo clippy' deploy/clippy.sh

rust-tests:
	@$(QUIETLY) 'cargo test' deploy/rust.sh cargo test --manifest-path datago/Cargo.toml --locked $(CARGO_CHECKED)

python-tests:
	@. deploy/lib.sh; browser=; have chromium || { browser=' and not browser'; say 'no chromium: leaving out the browser tests'; }; \
		$(SERVERS) -- $(PY) -m pytest -q -m "not heavy$$browser" -n $(WORKERS) --dist loadgroup $(ARGS)

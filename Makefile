# What can be done here: `make help`. Everything runs in .venv, which is made from the pinned, hashed requirements.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test prove mutate bench bench-peers check format requirements clean run-environment dev-environment

export PYTHONPATH := $(CURDIR)
PYTHON := .venv/bin/python
CODE := dags include plugins tests
N ?= 100000

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name what; do printf '  make %-14s %s\n' "$$name" "$$what"; done

demo: run-environment ## Run the whole sync on this machine and keep serving; ONCE=1 ends after one run
	@exec $(PYTHON) -m include.demo --stop-with-parent $(if $(filter-out 0 no,$(ONCE)),--once)

test: dev-environment ## Run every test; TESTS="tests/demo -k mail" chooses some
	@exec $(PYTHON) -m pytest $(TESTS)

prove: dev-environment ## Prove matching and applying at length, with a scorecard; PROOFS="-k crash" chooses some
	@exec $(PYTHON) -m pytest tests/proof -o python_files='prove_*.py' $(PROOFS)

mutate: dev-environment ## Change the pure core in small ways and see whether the tests notice; MUTANTS='*.match.*': some anew
	@$(if $(MUTANTS),,rm -rf mutants)
	@nice .venv/bin/mutmut run $(MUTANTS)
	@.venv/bin/mutmut results
	@.venv/bin/mutmut results --all true | awk -F '[. :]+' \
		'{ all[$$4]++; if (/survived$$|no tests$$|not checked$$/) survived[$$4]++ } \
		END { for (module in all) print module ": " all[module] - survived[module] " of " all[module] " mutants noticed" }'

bench: dev-environment ## Measure the sync of N=100000 contacts: seconds, memory, calls; BENCH="--grow-to 2000000": more
	@exec $(PYTHON) -m tests.benchmark --contacts $(N) $(BENCH)

bench-peers: dev-environment ## Let other tools sync the same N=100000 contacts beside this one; PEERS="--environments FOLDER": keep them
	@exec $(PYTHON) -m tests.benchmark.peers --contacts $(N) $(PEERS)

check: dev-environment ## Check format, lint, types and import contracts, then run every test
	$(PYTHON) -m ruff format --check $(CODE)
	$(PYTHON) -m ruff check $(CODE)
	$(PYTHON) -m mypy
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command as check; check()'
	$(PYTHON) -m pytest

format: dev-environment ## Format the code and mend what the linter can
	$(PYTHON) -m ruff format $(CODE)
	$(PYTHON) -m ruff check --fix $(CODE)

requirements: dev-environment ## Pin everything anew from requirements.in and requirements-dev.in
	$(PYTHON) -m uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes requirements.in -o requirements.txt
	$(PYTHON) -m uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes requirements-dev.in -o requirements-dev.txt

clean: ## Remove the environment, the demo's data and what the tools left
	@if [ -L .demo/postgres ]; then rm -rf -- "$$(readlink .demo/postgres)"; fi
	rm -rf .venv .demo mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Always asked, since a fingerprint decides, not a file's date; does nothing while the environment fits.
run-environment dev-environment:
	@.ci/environment $(@:-environment=)

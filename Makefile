# Every path is relative, so that the checkout may lie in a folder with spaces in its name.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=

.PHONY: help run ui status test test-long test-browser test-production test-sentence lint format types bench docs constraints clean

help: ## list the verbs
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

.venv/.installed-run: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh run

.venv/.installed-dev: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh dev

run: .venv/.installed-run ## set up and run the whole graph (ARGS="--help" for options)
	@$(BIN)/mlops run $(ARGS)

ui: .venv/.installed-run ## start Dagster (webserver and daemon) with the MLflow UI and the Data Docs, on 127.0.0.1
	@$(BIN)/mlops ui $(ARGS)

status: .venv/.installed-run ## what is materialized, checked and promoted
	@$(BIN)/mlops status $(ARGS)

test: .venv/.installed-dev ## set up and pass the tests
	@$(BIN)/python -m pytest -n 2 --ignore=mlops_platform_tests/production \
		--ignore=mlops_platform_tests/browser -m "not long" $(ARGS)

test-long: .venv/.installed-dev ## pass the tests that take long: whole runs killed and healed, scenarios, differential tests
	@$(BIN)/python -m pytest -n 2 --ignore=mlops_platform_tests/production \
		--ignore=mlops_platform_tests/browser -m long $(ARGS)

test-browser: .venv/.installed-dev ## pass the tests of the labeling page (needs Chromium and its driver)
	@$(BIN)/python -m pytest mlops_platform_tests/browser $(ARGS)

test-production: .venv/.installed-dev ## pass the tests against a BigQuery emulator, Postgres, Redis, MLflow and Airbyte's API
	@scripts/bigquery-emulator.sh
	@$(BIN)/python -m pytest -n 2 --dist loadfile mlops_platform_tests/production $(ARGS)

test-sentence: .venv/.installed-dev ## pass the tests of the sentence vectors, in an environment with their packages
	@scripts/sentence.sh
	@.venv-sentence/bin/python -m pytest -n 2 --dist loadfile mlops_platform_tests/sentence $(ARGS)

lint: .venv/.installed-dev ## ruff, mypy, and the layers by import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: .venv/.installed-dev ## let ruff format and fix what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/.installed-dev ## set up what it measures beside (Airflow, torch), measure, and write benchmarks/results.md
	@$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.installed-run ## write the table of settings into docs/production.md
	@$(BIN)/python scripts/settings_table.py

constraints: ## pin anew what pyproject.toml asks for (needs uv)
	uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--no-emit-index-url --quiet --upgrade pyproject.toml -o constraints.txt

clean: ## remove the environment and all state
	rm -rf .venv .venv-bigquery .venv-airflow .venv-sentence var

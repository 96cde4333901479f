# The menu. `make demo` and `make test` set up everything they need.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV := .venv
COPY := .cache/ansible_collections/keepalive/fastapi
SANITY_HOME := $(CURDIR)/.cache/ansible-test
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Where tests keep what failed, to be told once more below all that Molecule prints.
export FAILED_TESTS := $(CURDIR)/.cache/failed-tests.txt
TELL_FAILED := { cat $(FAILED_TESTS); exit 1; }
# Python's byte code stays out of the tree that is hashed, linted and packed.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache

.PHONY: help demo calibrate soak rollout fleet test lint copy ruff mypy ansible-lint sanity unit molecule no-hosts clean
help:
	@echo "make demo       a FastAPI service behind nginx, on a lab host on this computer"
	@echo "make test       lint, unit tests and Molecule scenarios (about 40 minutes)"
	@echo "make lint       ansible-lint, ansible-test sanity, ruff and mypy alone"
	@echo "make unit       unit tests alone"
	@echo "make molecule   Molecule scenarios alone"
	@echo "make calibrate  how often the benchmark is wrong, after make demo (about 100 minutes)"
	@echo "make soak       hundreds of switches and faults under millions of requests (about 3 hours)"
	@echo "make rollout    balancer, pull, trials and rollouts that do not go well (a quarter of an hour)"
	@echo "make fleet      rollouts to a fleet of twelve, and all that can befall them (about 7 hours)"
	@echo "make clean      remove hosts, idle lab images, .venv, caches and reports/ (Debian packages stay)"

$(VENV)/.ready: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Installing python3-venv, which $(PYTHON) lacks"; \
	  $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv; }
	@echo "Setting up $(VENV) from requirements-dev.txt (about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt || { \
	  echo "make: pip failed; see above. It needs the package index: check the network, then run make again"; exit 1; }
	@mkdir -p $(VENV)/collections/ansible_collections/keepalive
	@ln -sfn ../../../.. $(VENV)/collections/ansible_collections/keepalive/fastapi
	@touch $@

# The one step of the lab that needs root, so the only one that may ask for it.
.lab/.tools: playbooks/lab.yml | $(VENV)/.ready
	@ansible-playbook playbooks/lab.yml -e lab_state=prepared \
	  $$([ "$$(id -u)" = 0 ] || sudo -kn true 2>/dev/null || echo --ask-become-pass) || { \
	  echo "make: the container tools could not be installed; the task above says why"; exit 1; }
	@touch $@

demo: $(VENV)/.ready .lab/.tools
	@echo "1/4 Lab host web1"
	@ansible-playbook playbooks/lab.yml || { \
	  echo "make demo: the lab host did not come up; the task above says why. 'make clean' starts from nothing"; exit 1; }
	@echo "2/4 ansible-playbook site.yml"
	@ansible-playbook site.yml || { \
	  echo "make demo: the deployment failed; the task above names the cause. What served before still serves"; exit 1; }
	@echo "3/4 What runs now"
	@ANSIBLE_CALLBACK_RESULT_FORMAT=json ansible-playbook playbooks/info.yml | sed -n 's/^ *"msg": "\(.*\)"/  \1/p'
	@echo "  http://127.0.0.1:8080/        https://127.0.0.1:8443/       (self-signed: curl --insecure)"
	@echo "  http://127.0.0.1:8080/docs    the API's own page"
	@echo "4/4 What keepalive gives here: 40 pairs of runs, about 2 minutes"
	@ansible-playbook playbooks/benchmark.yml || { \
	  echo "make demo: the benchmark failed; the task above names the cause. The service serves"; exit 1; }
	@echo "Open reports/benchmark.html in a browser. Then try:"
	@echo "  curl -i http://127.0.0.1:8080/health"
	@echo "  .venv/bin/ansible-playbook site.yml --check --diff -e fastapi_service_workers=3"
	@echo "  .venv/bin/ansible web1 -a 'journalctl -u demo@blue -n 20'"

# 40 comparisons of an arm with itself, and with one that is made slower.
calibrate: $(VENV)/.ready
	@ansible-playbook playbooks/benchmark.yml -e @playbooks/vars/calibration.yml

soak: no-hosts
	@rm -f reports/soak.json reports/soak.html
	@molecule test -s soak --report || $(TELL_FAILED)
	@echo "reports/soak.json, reports/soak.html"

rollout: no-hosts
	@molecule test -s rollout_more --report || $(TELL_FAILED)

# Twelve hosts, so some 2 GB of memory.
fleet: $(VENV)/.ready .lab/.tools
	@ansible-playbook playbooks/lab.yml -i inventory/lab -i molecule/inventory -e lab_hosts=fleet
	@rm -f reports/fleet.json
	@pytest -v -n 0 molecule/fleet/tests; status=$$?; \
	  ansible-playbook playbooks/lab.yml -i inventory/lab -i molecule/inventory -e lab_hosts=fleet -e lab_state=absent; \
	  exit $$status

test:
	@begun=$$SECONDS; for step in lint unit molecule; do \
	  echo "=== make $$step"; \
	  $(MAKE) --no-print-directory $$step || { \
	    echo "make test: FAILED in '$$step'; what failed is above, 'make $$step' runs it alone"; exit 1; }; \
	done; \
	took=$$((SECONDS - begun)); \
	echo "make test: all passed (lint, unit tests, Molecule scenarios) in $$((took / 60)) min $$((took % 60)) s"

# Two at a time: each keeps one processor busy. What one says comes as a whole.
lint: $(VENV)/.ready
	@$(MAKE) --no-print-directory -j2 --output-sync=target ruff ansible-lint mypy sanity

# ansible-test and mypy want a collection at .../ansible_collections/NAMESPACE/NAME,
# ansible-test in a git work tree of its own, for .cache is ignored by this one.
copy:
	@rm -rf $(COPY) && mkdir -p $(COPY)
	@git ls-files -co --exclude-standard -z | tar -c --null --ignore-failed-read -T - | tar -xC $(COPY)
	@git -C $(COPY) -c init.defaultBranch=main init -q

ruff: $(VENV)/.ready
	@echo "--- ruff"; ruff check . && ruff format --check .

ansible-lint: $(VENV)/.ready
	@echo "--- ansible-lint"; ansible-lint

mypy: $(VENV)/.ready copy
	@echo "--- mypy"; cd .cache && MYPYPATH=. mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache \
	  -p ansible_collections.keepalive.fastapi.plugins -p ansible_collections.keepalive.fastapi.tests
	@# files/ runs on a host, with what is installed there.
	@MYPYPATH=molecule:examples/demo_app/src:.cache mypy --cache-dir .mypy_cache/molecule --exclude /files/ molecule examples

# HOME, since ansible-test keeps its environments in ~/.ansible. PATH, since it
# stops at a version manager's python3.x that names a version not installed; it
# tells which Python versions it did not find.
sanity: $(VENV)/.ready copy
	@echo "--- ansible-test sanity (a minute and a half the first time)"; mkdir -p $(SANITY_HOME)/.ansible/test/cache
	@cp tests/sanity/bootstrap_pip.py $(SANITY_HOME)/.ansible/test/cache/get_pip_24_2.py
	@cd $(COPY) && HOME=$(SANITY_HOME) PATH=$(CURDIR)/$(VENV)/bin:/usr/local/bin:/usr/bin:/bin \
	  ansible-test sanity

unit: $(VENV)/.ready
	@pytest -n auto tests/unit examples/demo_app/tests

molecule: no-hosts
	@# Not the long ones, which have targets of their own.
	@molecule test --all --exclude soak --exclude rollout_more --report || $(TELL_FAILED)

no-hosts: $(VENV)/.ready .lab/.tools
	@# What an interrupted run left, hosts and Molecule's own notes, goes first.
	@mkdir -p .cache && : >$(FAILED_TESTS)
	@molecule destroy -s default >.cache/destroy.log 2>&1 || { cat .cache/destroy.log; exit 1; }

clean:
	@# Without its virtual environment it could not remove the lab.
	@if [ -e .lab ]; then $(MAKE) --no-print-directory $(VENV)/.ready && \
	  ansible-playbook playbooks/lab.yml -e lab_state=purged; fi
	@rm -rf $(VENV) .cache .lab reports .pytest_cache .mypy_cache .ruff_cache .hypothesis .ansible .benchmarks
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "make clean: hosts, $(VENV), caches and reports of this checkout are gone, and lab images that no host uses"

# Each target sets up what it lacks; a second run sets up nothing.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Constrains the build backend too, which pip installs on its own.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) apt-get install -y -q --no-install-recommends

.PHONY: demo test lint schemas lock bench peers certify canary powercut chaos vpi fleet kills scenarios soak fuzz mutants deb audit clean

demo: $(VENV)/.hil ## the main job as a tour: emulated devices, a broker, a network cut, the account
	$(BIN)/yukimi demo

# Most tests wait more than they compute: two at a time for each core. Neighbours share fixtures, so
# each worker gets a row of them, and who is through takes half of what another has left.
JOBS ?= $(shell echo $$((2 * $$(nproc))))
# Hundreds of tests start the program: let it be compiled once, whatever the environment says.
test: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.dev $(VENV)/.tools $(VENV)/.vpi ## every test, against a real broker; JOBS=0 one after the other
	$(BIN)/pytest -n $(JOBS) --dist worksteal --durations 25

lint: $(VENV)/.dev ## style, types, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

schemas: $(VENV)/.dev ## write docs/schemas, docs/asyncapi.yaml and docs/drivers from the models and drivers
	$(BIN)/python -m agent.schemas docs

bench: $(VENV)/.dev $(VENV)/.tools ## what a gateway costs, in one table: memory, CPU, disk, wire, start, growth
	$(SUDO) $(BIN)/python -m hil bench

peers: $(VENV)/.dev $(VENV)/.tools $(VENV)/.rivals ## the same beside its rivals, which it installs: 20 minutes and more
	$(SUDO) $(BIN)/python -m hil bench --peers --markdown $(VENV)/cost.md

certify: $(VENV)/.hil ## the promise about people: a million windows in, epsilon measured from what comes out
	$(BIN)/python -m hil bench privacy

canary: $(VENV)/.dev $(VENV)/.tools ## the same from the other side: a known crowd, then every byte of disk, log and wire is searched
	$(BIN)/python -m hil bench canary

powercut: $(VENV)/.dev $(VENV)/.tools ## cut the power 500 times: nothing is lost; without syncs, something is
	$(SUDO) $(BIN)/python -m hil.powercut --cuts 500
	$(SUDO) $(BIN)/python -m hil.powercut --cuts 50 --unsafe

chaos: $(VENV)/.dev $(VENV)/.tools ## ten minutes of kills, cuts and refusals at random: nothing is missing
	$(BIN)/python -m hil.chaos --minutes 10

vpi: $(VENV)/.dev $(VENV)/.tools $(VENV)/.vpi ## a Debian guest with the kernel's own I2C, GPIO, serial lines: its hardware, its power cuts
	$(SUDO) $(BIN)/python -m hil vpi run
	$(SUDO) $(BIN)/python -m hil vpi powercut --cuts 10
	$(SUDO) $(BIN)/python -m hil vpi powercut --liar
	$(SUDO) $(BIN)/python -m hil vpi field --cuts few

fleet: $(VENV)/.dev $(VENV)/.tools ## 1,000 gateways lose their broker at once and come back: how spread, how fast, and is all there
	$(BIN)/python -m hil fleet --gateways 1000 --minutes 10

scenarios: $(VENV)/.hil $(VENV)/.tools ## every scenario of the bench, whole, but for the month
	for name in storm-day snow-festival spring-melt brown-out-week hostile-line broker-failure clock-1970; do \
	    $(SUDO) $(BIN)/python -m hil run $$name || exit 1; done

soak: $(VENV)/.hil $(VENV)/.tools ## thirty days of a gateway in minutes: nothing grows
	$(BIN)/python -m hil run soak-month

kills: $(VENV)/.dev $(VENV)/.tools ## the unit, booted, and killed 100 times: it comes back, and nothing is missing
	$(SUDO) env YUKIMI_KILLS=100 $(BIN)/pytest --timeout=1800 tests/e2e/test_unit.py -k killed

fuzz: $(VENV)/.dev ## ten million bytes of noise and of damaged frames into every decoder, then a guided search
	$(BIN)/pip install -q -e '.[fuzz]'
	$(BIN)/python -m hil.fuzz
	$(BIN)/python -m hil.fuzz --guided 120

deb: $(VENV)/.dev ## Debian packages for Debian 12 and 13, arm64 and amd64, in dist/
	for release in bookworm trixie; do for architecture in arm64 amd64; do \
	    $(BIN)/python deb/package.py --release $$release --architecture $$architecture || exit 1; \
	done; done

audit: $(VENV)/.dev ## known vulnerabilities in what the package carries (asks PyPI's advisories)
	$(BIN)/uv export -q --frozen --extra cli --extra pi --prune setuptools --no-emit-project \
	    -o $(VENV)/shipped.txt
	$(BIN)/pip-audit --require-hashes --disable-pip --strict -r $(VENV)/shipped.txt

mutants: $(VENV)/.dev $(VENV)/.tools ## plant each known defect in a copy of the source: its test must notice it
	$(BIN)/python -m hil mutants

lock: ## resolve the dependencies anew (uv.lock, constraints.txt)
	$(PYTHON) -m venv $(VENV)-lock
	env -u PIP_CONSTRAINT $(VENV)-lock/bin/pip install -q uv
	$(VENV)-lock/bin/uv lock --upgrade
	$(VENV)-lock/bin/uv export -q --all-extras --no-hashes --no-emit-project --no-annotate \
	    --format requirements-txt -o constraints.txt
	rm -rf $(VENV)-lock

clean: ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { $(SUDO) apt-get update -q && $(APT) python3-venv && \
	    $(PYTHON) -m venv --clear $(VENV); }

$(VENV)/.hil: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install -q -e '.[hil]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install -q -e '.[dev]'
	touch $@ $(VENV)/.hil

$(VENV)/.tools: | $(BIN)/python
	PATH="$$PATH:/usr/sbin:/sbin"; command -v mosquitto && command -v strace && command -v mkfs.ext4 && \
	    command -v fusermount3 && command -v nft && \
	    command -v mmdebstrap && command -v systemd-nspawn && \
	    command -v chromium && test -d /usr/share/fonts/opentype/noto && \
	    { command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } || \
	    { $(SUDO) apt-get update -q && $(APT) mosquitto strace e2fsprogs fuse3 nftables chromium \
	    fonts-noto-cjk postgresql mmdebstrap systemd-container; }
	touch $@

$(VENV)/.rivals: | $(BIN)/python
	PATH="$$PATH:/usr/sbin:/sbin"; command -v collectd && command -v valgrind && command -v strace || \
	    { $(SUDO) apt-get update -q && $(APT) collectd-core valgrind strace; }
	touch $@

$(VENV)/.vpi: | $(BIN)/python
	PATH="$$PATH:/usr/sbin:/sbin"; command -v qemu-system-x86_64 && command -v qemu-io && command -v mmdebstrap && \
	    command -v depmod && command -v busybox && command -v cpio && command -v xz && command -v gcc && \
	    command -v make && test -e /usr/lib/x86_64-linux-gnu/libelf.so.1 || \
	    { $(SUDO) apt-get update -q && $(APT) qemu-system-x86 qemu-utils mmdebstrap kmod busybox-static cpio \
	    xz-utils gcc make libelf1; }
	touch $@

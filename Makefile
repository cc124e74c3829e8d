# make run    installs the mirror into .venv and starts it with conf/ghmirror.ini
# make test   installs the requirements of the tests, then runs every check and every test
# make docs   builds the documentation into .venv/docs
# make bench  installs the requirements of the speed benchmark, and runs it; BENCH='--help' lists its
#             options, and PYPY=pypy3 measures the mirror on PyPy as well
# make fuzz   installs the requirements of fuzzing, and fuzzes every parser for MINUTES=5 each, JOBS
#             at a time; TARGET=links fuzzes only that one. It fails at a finding, with a file's name.
# make chaos  makes Redis, replicas, clocks and GitHub's stand-in fail under load, and checks every
#             response; SECONDS and SEED set duration and faults, CHAOS='--help' lists the options
# make clean  removes the files that these targets make
#
# make image       builds a container image with Docker, upon the present digest of the base
# make image-pypy  builds the image on PyPy in the same way
# make image-test  builds both images with an engine of its own, and runs them; make test includes it
# make lock        updates the versions of an image's packages

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: run test docs bench fuzz fuzz-keep chaos clean programs image image-pypy image-test \
	lock FORCE

# The first Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check --no-input
BOOK := sphinx-build -W --keep-going -n -q docs $(VENV)/docs
SOURCES := $(shell find ghmirror_tw twisted -name '*.py' -not -name '.*') ghmirror_tw/py.typed \
	$(wildcard ghmirror_tw/web/page/*)
# Packages without a reactor, a clock or a socket.
PURE := ghmirror_tw/http/*,ghmirror_tw/github/*,ghmirror_tw/caching/*
NODE_MODULES := tests/node_modules/.package-lock.json

run: $(VENV)/installed
	@exec $(VENV)/bin/twistd --nodaemon --pidfile= ghmirror --config conf/ghmirror.ini

test: programs $(VENV)/installed $(VENV)/ready-to-test
	@failed=()
	check() { printf '\n$$ %s\n' "$$*"; "$$@" || failed+=("$$*"); }
	ended() { printf '\n$$ %s\n' "$$2"; wait "$$1" || failed+=("$$2"); cat "$(VENV)/$$2.log"; }
	export PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
	# only pytest needs npm's packages
	make --no-print-directory $(NODE_MODULES) &
	npm=$$!
	# beside the tests, which wait more than they compute
	mypy >$(VENV)/mypy.log 2>&1 &
	mypy=$$!
	$(BOOK) >$(VENV)/sphinx-build.log 2>&1 &
	book=$$!
	check ruff check .
	check ruff format --check .
	wait $$npm
	rm -f .coverage .coverage.*
	printf '\n$$ pytest\n'
	# in alphabetical order: by number of tests, a file with one long test would be the last
	coverage run -m pytest --numprocesses=5 --dist=loadfile \
		--no-loadscope-reorder --color=no | tee $(VENV)/pytest.log || failed+=(pytest)
	coverage combine --quiet || failed+=("coverage combine")
	ended $$mypy mypy
	ended $$book sphinx-build
	check coverage report --include='$(PURE)' --fail-under=100
	check coverage report --omit='$(PURE)' --precision=2 --fail-under=96
	echo
	if (($${#failed[@]})); then
		printf 'FAILED: %s\n' "$${failed[@]}"
	fi
	sed -n 's/^SKIPPED \[[0-9]*\] [^ ]* //p' $(VENV)/pytest.log
	tail -n 1 $(VENV)/pytest.log
	exit $$(($${#failed[@]} > 0))

docs: $(VENV)/installed $(VENV)/ready-to-test
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(BOOK)
	echo 'It begins with $(VENV)/docs/index.html'

# Other servers for comparison, and the load generator. Timings on a busy machine mean little.
bench: PROGRAMS := redis-server:redis-server varnishd:varnish nginx:nginx-light wrk:wrk
bench: programs $(VENV)/installed $(VENV)/ready-to-test $(VENV)/ready-to-bench \
		$(if $(PYPY),$(VENV)/pypy/installed)
	@if [ -n "$(PYPY)" ]; then
		export MIRROR_PYTHON="$(CURDIR)/$(VENV)/pypy/bin/python"
		set -a
		. conf/pypy/environment
	fi
	exec $(VENV)/bin/python -m benchmarks.speed $(BENCH)

# Minutes for each target, targets at a time, and the target; empty: all.
MINUTES ?= 5
JOBS ?= $(shell nproc)
TARGET ?=
fuzz: $(VENV)/installed $(VENV)/ready-to-test $(VENV)/ready-to-fuzz
	@exec nice -n 10 $(VENV)/bin/python -m tests.fuzz --minutes $(MINUTES) --jobs $(JOBS) $(TARGET)

# Copies into tests/fuzz/corpus the few inputs of the fuzzers that cover most code.
fuzz-keep: $(VENV)/installed $(VENV)/ready-to-test
	@exec nice -n 10 $(VENV)/bin/python -m tests.fuzz.keep $(TARGET)

# The seed determines faults and times, but not to the millisecond.
SECONDS ?= 300
SEED ?= 1
CHAOS ?=
chaos: PROGRAMS := redis-server:redis-server
chaos: programs $(VENV)/installed $(VENV)/ready-to-test
	@exec $(VENV)/bin/python -m tests.history.chaos --seconds $(SECONDS) --seed $(SEED) $(CHAOS)

clean:
	rm -rf $(VENV) tests/node_modules build *.egg-info .coverage .coverage.* .fuzz

# The present digest of BASE is looked up, and built upon; IMAGE names the result.
image: DOCKERFILE := Dockerfile
image: IMAGE ?= ghmirror
image-pypy: DOCKERFILE := conf/pypy/Dockerfile
image-pypy: IMAGE ?= ghmirror:pypy
BASE ?= $(shell sed -n 's/^ARG BASE=//p' $(DOCKERFILE))
image image-pypy:
	@digest=$$(docker buildx imagetools inspect $(BASE) --format '{{.Manifest.Digest}}')
	docker build --file $(DOCKERFILE) --build-arg BASE=$(BASE)@$$digest --tag $(IMAGE) .

# Needs root. The engine is stopped, and what it has made is removed.
image-test: programs $(VENV)/installed $(VENV)/ready-to-test
	@exec $(VENV)/bin/python -m pytest tests/deploy/test_image.py tests/deploy/test_image_runs.py \
		tests/deploy/test_pypy_runs.py tests/deploy/test_compose_runs.py

# uv resolves versions for all systems at once, and writes no registry into the file.
lock: $(VENV)/made
	@$(PIP) install 'uv>=0.13'
	compile() {
		$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command 'make lock' "$$@"
	}
	compile setup.cfg --output-file requirements.lock
	compile setup.cfg --constraint conf/pypy/constraints.txt --output-file conf/pypy/requirements.lock
	printf '%s\n' 'pip' 'setuptools>=77' 'wheel' 'cyclonedx-bom>=7.5' \
		| compile - --output-file requirements-build.lock

# A virtual environment is made again if its Python is missing, or if an installation was interrupted:
# pip would count half of a package as installed.
$(VENV)/made: $(if $(shell [ ! -e $(VENV)/installing ] \
		&& $(VENV)/bin/python -c 'print("works")' 2>/dev/null),,FORCE)
	@if [ -z "$(PYTHON)" ]; then
		echo 'Python 3.11 or later is needed (Debian, Ubuntu: apt-get install python3).' >&2
		exit 1
	fi
	if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
		package=python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
		echo "Python's venv is needed (Debian, Ubuntu: apt-get install $$package)." >&2
		exit 1
	fi
	echo "Making $(VENV)"
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

# Files in build/ from an earlier run would be installed, too, and be found by later checks.
$(VENV)/installed: $(VENV)/made setup.cfg pyproject.toml $(SOURCES)
	@echo 'Installing ghmirror and what it needs into $(VENV)'
	rm -rf build
	touch $(VENV)/installing
	if ! $(PIP) install .; then
		echo "pip could not install ghmirror into $(VENV); its own message is above. Without a" \
			"network, let pip find packages elsewhere: set PIP_INDEX_URL or PIP_FIND_LINKS, or" \
			"PIP_PROXY for a proxy." >&2
		exit 1
	fi
	rm -rf build *.egg-info $(VENV)/installing
	touch $@

# Some dependencies are compiled here: there are few wheels for PyPy.
$(VENV)/pypy/installed: $(VENV)/made conf/pypy/constraints.txt setup.cfg pyproject.toml $(SOURCES)
	$(PYPY) -m venv --clear $(VENV)/pypy
	rm -rf build
	$(VENV)/pypy/bin/python -m pip --quiet --disable-pip-version-check --no-input install \
		--constraint conf/pypy/constraints.txt .
	rm -rf build *.egg-info
	touch $@

$(VENV)/ready-to-test: $(VENV)/made tests/requirements.txt
	# bytecode is compiled for what is imported: less than half
	$(PIP) install --no-compile -r tests/requirements.txt
	touch $@

$(VENV)/ready-to-bench: $(VENV)/made benchmarks/requirements.txt
	$(PIP) install -r benchmarks/requirements.txt
	touch $@

$(VENV)/ready-to-fuzz: $(VENV)/made tests/fuzz/requirements.txt
	$(PIP) install -r tests/fuzz/requirements.txt
	touch $@

$(NODE_MODULES): tests/package.json tests/package-lock.json tests/.npmrc
	cd tests
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch node_modules/.package-lock.json

# The programs and files that tests need, each with its Debian package. Servers are in /usr/sbin,
# which is not in the PATH of every user.
PROGRAMS := node:nodejs npm:npm redis-server:redis-server promtool:prometheus \
	amtool:prometheus-alertmanager \
	systemd-analyze:systemd haproxy:haproxy gh:gh tinyproxy:tinyproxy chromium:chromium \
	curl:curl wget:wget dockerd:docker.io iptables:iptables docker-compose:docker-compose \
	mmdebstrap:mmdebstrap go:golang-go \
	/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring \
	/usr/share/gocode/src/github.com/google/go-github:golang-github-google-go-github-dev

programs:
	@missing=()
	for program in $(PROGRAMS); do
		PATH="$$PATH:/usr/sbin" command -v "$${program%%:*}" >/dev/null \
			|| [ -e "$${program%%:*}" ] || missing+=("$${program##*:}")
	done
	if [ -n "$(PYTHON)" ] && ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
		missing+=(python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv)
	fi
	if ((! $${#missing[@]})); then exit 0; fi
	as_root=()
	if [ "$$(id -u)" != 0 ]; then as_root=(sudo -n); fi
	if ! command -v apt-get >/dev/null || ! "$${as_root[@]}" true 2>/dev/null; then
		echo "These packages are needed, and may not be installed from here: $${missing[*]}" >&2
		echo "Install them, for instance with: sudo apt-get install $${missing[*]}" >&2
		exit 1
	fi
	echo "Installing $${missing[*]}"
	as_root+=(env DEBIAN_FRONTEND=noninteractive)
	"$${as_root[@]}" apt-get update -qq || true
	# Since Debian 13 the client of Docker has a package of its own.
	if [[ " $${missing[*]} " = *" docker.io "* ]] && apt-cache show docker-cli &>/dev/null; then
		missing+=(docker-cli)
	fi
	"$${as_root[@]}" apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null

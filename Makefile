# `make book` and `make test` install what they need first. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PORT ?= 8000

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup lock test older book locale pdf serve notebooks ablations ladder departures bodies weights costs confirm claims bench sync lint clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(INSTALLED)  ## make .venv, install requirements.lock, each file by its digest, and the package in it

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "installing what requirements.lock lists into $(VENV), once: some 6 GB, minutes to half an hour by the connection"
	$(BIN)/python -m pip install $$(test -t 1 || echo --quiet) --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lock:  ## write requirements.lock anew after a change of requirements.txt: every package, every system, every file's digest
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  --output-file requirements.lock requirements.txt

ALONE := OMP_NUM_THREADS=1 TQDM_DISABLE=1
NBVAL := $(BIN)/python -m pytest notebooks -n $(JOBS) --dist loadfile --no-loadscope-reorder \
  --nbval --nbval-current-env --nbval-cell-timeout=2400 --nbval-sanitize-with=tests/nbval_sanitize.cfg
# What torch, oneDNN, MKL and NumPy may use of an x86 processor: SSE4, as of 2008
OLDER := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4"

test: setup  ## run every test, then every notebook against its stored outputs
	$(ALONE) $(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile
	$(ALONE) $(NBVAL)

older: setup  ## run every notebook against its stored outputs with an older instruction set, which rounds in another way
	$(ALONE) $(OLDER) $(NBVAL)

book: setup  ## run every notebook and build the book into _build/html; with LANGUAGE=zh_CN the Chinese edition too
	$(BIN)/python book/build.py $(addprefix --language ,$(LANGUAGE))

locale: setup  ## bring the catalogues of translations up to date with the English text
	$(BIN)/python book/catalogues.py

pdf: setup  ## print the built book into _build/dsgc.pdf, with a browser
	$(BIN)/python book/pdf.py

serve: setup  ## show the built book at http://localhost:8000
	@test -f _build/html/index.html || { echo "no book yet: run make book first"; exit 1; }
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

notebooks: setup  ## run every notebook and store its outputs, after a change of text or package
	$(BIN)/python book/store.py

ablations: setup  ## make the runs of notebooks 07 to 09 that results/ lacks; hours, can be stopped and goes on
	$(BIN)/python -m dsgc grid

ladder: setup  ## measure the readings of the correction on fixed maps (OF=drawn, early, pooled or photographs, DATA=); hours, can be stopped and goes on
	$(BIN)/python -m dsgc.experiments.ladder runs/ladder$(OF:%=/%) $(or $(DATA),data/shapes) $(OF)

costs: setup  ## count and time what a step of each method costs
	$(BIN)/python -m dsgc.experiments.costs data/shapes

confirm: setup  ## keep what the code of COMMIT has made where today's leaves the same bits (SCALE=shapes DATA=)
	$(BIN)/python -m dsgc.experiments.confirm $(COMMIT) $(SCALE) $(DATA)

claims: setup  ## print the paper's claims and what became of them, as the README has them
	@$(BIN)/python -m dsgc.experiments.account

departures: ladder  ## measure what the departures from print do on dev
	$(BIN)/python -m dsgc.experiments.departures runs/ladder data/shapes

bodies: setup  ## count how much of heads and bodies the baseline finds under some seeds; ten minutes, can be stopped and goes on
	$(BIN)/python -m dsgc.experiments.bodies runs/bodies data/shapes

weights: setup  ## train the weights that come with the package anew; half an hour, can be stopped and goes on
	$(BIN)/python -m dsgc.experiments.shipped runs/shipped data/shapes

bench: setup  ## measure speed and memory again, into benchmarks/*.json (laptop.py, memory.py and step.py by themselves); most of an hour
	for script in mixture neighbours multiscale evaluation loader growth annotations pictures waiting; do $(BIN)/python benchmarks/$$script.py || exit 1; done

sync: setup  ## bring each notebook and its .py pair into step
	$(BIN)/jupytext --sync notebooks/*.py

lint: setup  ## check the code with ruff
	$(BIN)/python -m ruff check .

clean:  ## remove the built book and caches; data, runs and .venv stay
	rm -rf _build out.ipynb .pytest_cache .ruff_cache
	find dsgc tests notebooks book -name __pycache__ -prune -exec rm -rf {} +

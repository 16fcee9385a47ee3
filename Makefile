# `make run` and `make test` do all of their own set-up on a fresh machine (Python 3.11+ with venv).
PYTHON ?= python3
PORT ?= 7860
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run check test lint bench demo-models format screenshots audit clean

help:
	@echo "make run          the app on 127.0.0.1:7860 (ARGS='--models bundled' for other settings)"
	@echo "make check        the quick checks: ruff, mypy, unit tests, one look with a browser"
	@echo "make test         all checks: ruff, mypy, all tests, those in a browser too"
	@echo "make bench        the benchmark of the image-text models; the others: benchmarks/bench_*.py"
	@echo "make demo-models  draw the scenes and train the bundled checkpoints again"
	@echo "make screenshots  the screenshots in README.md and docs/tabs.md"
	@echo "make audit        known weaknesses of what is installed, asked of PyPI's database"
	@echo "make format       bring the code into form"

run: $(VENV)/.runtime
	$(BIN)/python app.py $(ARGS)

# Each worker has its own app and its own browser; a file's tests share them.
PYTEST := $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

check: lint $(VENV)/.chromium
	$(PYTEST) -m "smoke or not (long or slow or gpu or weights)"

test: lint $(VENV)/.chromium
	$(PYTEST)

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.runtime
	$(BIN)/python benchmarks/bench_clip.py

demo-models: $(VENV)/.runtime
	for model in clip blip2 viclip videochat; do \
	  folder=assets/checkpoints/demo-$$model && \
	  $(BIN)/python -m demo_models.train demo-$$model --out $$folder && \
	  $(BIN)/python -m demo_models.evaluate demo-$$model && \
	  $(BIN)/python -m demo_models.evaluate demo-$$model --via app || exit 1; \
	done
	$(BIN)/python -m demo_models.make_assets
	$(BIN)/python -m tests.test_docs --write

screenshots: $(VENV)/.tests $(VENV)/.chromium
	$(BIN)/python -m tests.browser.screenshots

audit: $(VENV)/.runtime
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && \
	  build/audit/bin/pip install --quiet --progress-bar off pip-audit==2.10.1; }
	$(BIN)/pip freeze | sed 's/+[a-z0-9.]*$$//' > build/audit/installed.txt
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r build/audit/installed.txt

format: $(VENV)/.tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "SeeSay needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@had=$$(test ! -e $(VENV) || echo yes); $(PYTHON) -m venv $(VENV) || \
	  { test -n "$$had" || rm -rf $(VENV); \
	    echo "The venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --progress-bar off torch==$$(sed -n 's/^torch==//p' requirements.txt)
	$(BIN)/pip install --quiet --progress-bar off -r requirements.txt
	@$(BIN)/python -c 'import cv2' 2>/dev/null || xargs apt-get install -y -q < packages.txt || \
	  { echo "OpenCV needs libGL and GLib; on Debian: apt-get install $$(xargs < packages.txt)"; exit 1; }
	@touch $@

$(VENV)/.tests: tests/requirements.txt requirements-ray.txt $(VENV)/.runtime
	$(BIN)/pip install --quiet --progress-bar off -r tests/requirements.txt
	@touch $@

$(VENV)/.chromium: $(VENV)/.tests
	bash tests/browser/install_chromium.sh $(BIN)/playwright
	@touch $@

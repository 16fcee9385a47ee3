#!/usr/bin/env bash
# All checks, cheapest first, ending on pytest's summary. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
exec $bin/python -m pytest -q "$@"

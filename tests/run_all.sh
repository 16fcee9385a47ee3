#!/usr/bin/env bash
# All checks, cheapest first, ending on pytest's summary. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
# A browser on a busy machine may miss its minute: what failed there is tried once more, alone.
$bin/python -m pytest -q tests/browser || $bin/python -m pytest -q --last-failed tests/browser
exec $bin/python -m pytest -q --ignore tests/browser "$@"

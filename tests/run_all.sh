#!/usr/bin/env bash
# All checks, cheapest first, ending on pytest's summary. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
# A browser on a busy machine may miss its minute: what failed there is tried once more, alone, and
# named at the end (tests/tried_twice.py). More than two such is no accident.
export TRIED_TWICE=""
if ! $bin/python -m pytest -q tests/browser; then
  TRIED_TWICE=$($bin/python -m pytest -q --collect-only --last-failed tests/browser | grep '::')
  [ "$(wc -l <<<"$TRIED_TWICE")" -le 2 ] || exit 1
  $bin/python -m pytest -q --last-failed tests/browser
fi
exec $bin/python -m pytest -q -p tests.tried_twice --ignore tests/browser "$@"

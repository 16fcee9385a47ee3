"""The benchmark of many visitors, over in a minute or two: its own check of every answer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.visitor_requests import num_distinct, same

ROOT = Path(__file__).parent.parent


def test_answers_are_compared_by_text_and_number() -> None:
    one = [{"label": "a", "cosine": 0.5}]
    assert same(one, [{"label": "a", "cosine": 0.50005}])
    assert not same(one, [{"label": "a", "cosine": 0.5002}])
    assert not same(one, [{"label": "b", "cosine": 0.5}])
    assert not same(one, [*one, *one])
    assert num_distinct([one, [{"label": "a", "cosine": 0.50005}], []]) == 2


@pytest.mark.slow
def test_six_visitors_at_once_get_their_own_answers() -> None:
    command = [sys.executable, "benchmarks/bench_visitors.py", "--visitors", "6"]
    done = subprocess.run(
        [*command, "--minutes", "0.3", "--rushes", "1", "--settle", "5"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert [facts[kind] for kind in ("wrong", "errors", "log_faults")] == [0, 0, 0]
    assert facts["answers"] > 0

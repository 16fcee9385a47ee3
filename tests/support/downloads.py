"""What the tests of downloads ask and expect."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import WeightsError
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.models.catalogue import CLIP_B32
from pipelines.weights.locate import Sources
from tests.fakes.hub import FakeHub

#: What is added to the tiny weights so that their download takes a while.
PADDING_BYTES = 4_000_000

#: What every fault has to end within: a bound on hangs, not on speed.
IN_TIME_S = 20


def sources_of(
    hub: FakeHub, *, stall_limit_s: float = 10.0, probe_timeout_s: float = 2.0, **more: Any
) -> Sources:
    settings = Settings(endpoint=hub.url, **more)
    return Sources(settings, probe_timeout_s=probe_timeout_s, stall_limit_s=stall_limit_s)


def refusal(sources: Sources, spec: ModelSpec = CLIP_B32) -> str:
    """Return what is said when `spec` cannot be had; it must be said in time, in plain words."""
    start = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        list(sources.fetch(spec))
    assert time.monotonic() - start < IN_TIME_S
    message = caught.value.message
    assert message.endswith(".")
    assert len(message) < 400
    assert "Traceback" not in message
    assert "/tmp" not in message
    return message


def wanted_bytes(repositories: Path) -> int:
    folder = repositories / CLIP_B32.repo
    wanted = [p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".txt"}]
    return sum(path.stat().st_size for path in wanted)


def assert_whole(folder: Path | None, repositories: Path) -> None:
    assert folder is not None
    weights = repositories / CLIP_B32.repo / "model.safetensors"
    assert (folder / weights.name).read_bytes() == weights.read_bytes()


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + IN_TIME_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Counting of uses: by model and by how they ended, in any number of threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.core.errors import InputError
from pipelines.serving.metrics import Metrics


def test_each_way_to_end_is_told_apart() -> None:
    usage = Metrics()
    with usage.counted("a"):
        assert usage.snapshot()[0][1].now == 1
    for error in (InputError("no"), KeyError("x")):
        with pytest.raises(type(error)), usage.counted("a"):
            raise error

    def stream() -> Iterator[int]:
        with usage.counted("a"):
            yield 1
            yield 2

    reading = stream()
    next(reading)
    reading.close()
    ((key, use),) = usage.snapshot()
    assert key == "a"
    assert use.now == 0
    assert dict(use.ended) == {"ok": 1, "refused": 1, "failed": 1, "left": 1}


def test_threads_lose_no_count() -> None:
    usage = Metrics()

    def work(number: int) -> None:
        with usage.counted(f"model-{number % 3}"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(300)))
    assert [(key, dict(use.ended)) for key, use in usage.snapshot()] == [
        (f"model-{number}", {"ok": 100}) for number in range(3)
    ]

"""Threads of OpenMP: ended when a computation is over, and there again for the next one."""

import ctypes
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.core.settings import Settings
from pipelines.serving import device_queue
from pipelines.serving.device_queue import release_threads
from pipelines.serving.store import PipelineStore

pytestmark = pytest.mark.skipif(device_queue._pause() is None, reason="another OpenMP than GNU's")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Compute with two threads, which `tests/conftest.py` does not allow otherwise."""
    device_queue._pause.cache_clear()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    device_queue._pause.cache_clear()


def threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def left_of(ended: set[str]) -> set[str]:
    """Return which threads are still there; one that has ended is listed for a moment longer."""
    give_up_at = time.monotonic() + 10.0
    while (left := ended & threads()) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return left


def compute() -> torch.Tensor:
    return torch.ones(1000, 1000).exp().sum(dtype=torch.float64)


def test_the_threads_of_a_computation_end_with_it() -> None:
    started: list[int] = []
    left: list[set[str]] = []

    def work() -> None:
        for _ in range(3):
            before = threads()
            assert compute().item() == pytest.approx(1e6 * 2.718281828, rel=1e-6)
            new = threads() - before
            release_threads()
            started.append(len(new))
            left.append(left_of(new))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert started == [torch.get_num_threads() - 1] * 3
    assert left == [set()] * 3


def test_whoever_lends_a_model_keeps_no_threads(tmp_path: Path) -> None:
    store = PipelineStore(Settings(models="bundled", device="cpu", work_dir=tmp_path))
    seen: list[set[str]] = []

    def work() -> None:
        with store.use("demo-clip", "image-text"):
            before = threads()
            compute()
            seen.append(threads() - before)
        seen.append(left_of(seen[0]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(seen[0]) == torch.get_num_threads() - 1
    assert seen[1] == set()


@pytest.mark.parametrize("there", [False, True])
def test_another_openmp_is_left_alone(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, mode: int) -> object:
        if there:
            return object()  # of before OpenMP 5
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    release_threads()
    assert device_queue._pause() is None

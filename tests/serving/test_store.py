"""Models are loaded once, leased, and swapped within the memory budget."""

import gc
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.compute.device import Device
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import InputError, MemoryLimitError, WeightsError
from pipelines.core.settings import Settings
from pipelines.models.base import Pipeline
from pipelines.models.catalogue import (
    CATALOGUE,
    CHINESE_CLIP_B16,
    CLIP_B32,
    CLIP_L14,
    DEMO_CLIP,
    SIGLIP2_B16,
)
from pipelines.serving import memory
from pipelines.serving.memory import start_trimming, start_unloading
from pipelines.serving.store import PipelineStore, build_pipeline

TASK = "image-text"
ROOT = Path(__file__).parent.parent.parent


class FakePipeline(Pipeline):
    loads: list[str] = []
    unloads: list[str] = []
    on_load: Callable[[str], None] = staticmethod(lambda key: None)

    def _load(self) -> None:
        self.loads.append(self.spec.key)
        type(self).on_load(self.spec.key)

    def _unload(self) -> None:
        self.unloads.append(self.spec.key)


class EverythingOnDisk:
    def locate(self, spec: Any) -> Path:
        return Path("/nowhere")

    def hub_answers(self, **_: Any) -> bool:
        return False

    def fetch(self, spec: Any) -> Any:
        return iter(())


@pytest.fixture
def store() -> PipelineStore:
    FakePipeline.loads, FakePipeline.unloads = [], []
    FakePipeline.on_load = staticmethod(lambda key: None)
    settings = Settings(device="cpu", dtype="float32", memory_gb=3.2)
    store = PipelineStore(settings, EverythingOnDisk())  # type: ignore[arg-type]
    store.build = FakePipeline
    return store


def in_threads(number: int, work: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def test_a_model_is_loaded_once_however_many_ask(store: PipelineStore) -> None:
    FakePipeline.on_load = staticmethod(lambda key: time.sleep(0.05))
    seen = []

    def use() -> None:
        with store.use("clip-vit-b32", TASK) as pipeline:
            assert pipeline.loaded
            seen.append(pipeline)

    in_threads(16, use)
    assert FakePipeline.loads == ["clip-vit-b32"]
    assert len(set(map(id, seen))) == 1
    assert store._slots["clip-vit-b32"].leases == 0


def test_a_model_has_room_beside_those_in_use_only(store: PipelineStore) -> None:
    """The budget is 3.2 GB: CLIP L/14 takes 2.1, B/32 0.9 and SigLIP 2 1.9."""
    with store.use("clip-vit-l14", TASK):
        assert store.has_room(store.resolve("clip-vit-l14", TASK))
        assert store.has_room(store.resolve("clip-vit-b32", TASK))
        assert not store.has_room(store.resolve("siglip2-b16", TASK))
    assert store.has_room(store.resolve("siglip2-b16", TASK))


def test_the_least_recently_used_idle_model_makes_room(store: PipelineStore) -> None:
    for key in ("clip-vit-b32", "chinese-clip-b16", "clip-vit-b32"):  # 0.9 + 1.1 of 3.2 GB
        with store.use(key, TASK):
            pass
    with store.use("siglip2-b16", TASK):  # 1.9 GB: one has to go
        pass
    assert FakePipeline.unloads == ["chinese-clip-b16"]
    assert store.loaded_keys() == ["clip-vit-b32", "siglip2-b16"]


def test_a_model_in_use_is_not_dropped_but_waited_for(store: PipelineStore) -> None:
    order = []
    leased, release = threading.Event(), threading.Event()

    def hold() -> None:
        with store.use("clip-vit-l14", TASK):
            leased.set()
            assert release.wait(10)
            order.append("given back")

    holder = threading.Thread(target=hold)
    holder.start()
    assert leased.wait(10)

    def want() -> None:
        with store.use("siglip2-b16", TASK):
            order.append("used")

    wanter = threading.Thread(target=want)
    wanter.start()
    time.sleep(0.1)
    assert order == []
    release.set()
    holder.join(10)
    wanter.join(10)
    assert order == ["given back", "used"]


def test_waiting_for_a_lease_ends(store: PipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.serving.store.LEASE_WAIT_S", 0.05)
    with (
        store.use("clip-vit-l14", TASK),
        pytest.raises(MemoryLimitError, match="in use"),
        store.use("siglip2-b16", TASK),
    ):
        pass


def test_waiting_for_a_lease_ends_under_steady_traffic(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lease given back started the wait anew, so two visitors taking turns made it endless."""
    monkeypatch.setattr("pipelines.serving.store.LEASE_WAIT_S", 0.3)
    stop = threading.Event()
    leases = [store.use("clip-vit-l14", TASK), store.use("clip-vit-l14", TASK)]
    leases[0].__enter__()

    def take_turns() -> None:
        while not stop.is_set():
            leases[1].__enter__()
            time.sleep(0.02)
            leases[0].__exit__(None, None, None)
            leases[0], leases[1] = leases[1], store.use("clip-vit-l14", TASK)

    traffic = threading.Thread(target=take_turns)
    traffic.start()
    start = time.monotonic()
    with pytest.raises(MemoryLimitError, match="in use"), store.use("siglip2-b16", TASK):
        pass
    assert time.monotonic() - start < 5.0
    stop.set()
    traffic.join(10)


def test_the_budget_holds_and_nothing_in_use_is_dropped(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random visitors of models that do not fit together."""
    monkeypatch.setattr(
        "pipelines.models.base.gc", SimpleNamespace(collect=lambda: 0)
    )  # takes 0.1 s
    keys = ["clip-vit-l14", "clip-vit-b32", "siglip2-b16", "chinese-clip-b16", "demo-clip"]
    broken: list[str] = []

    def visit(seed: int) -> None:
        random = Random(seed)
        for _ in range(12):
            key = random.choice(keys)
            with store.use(key, TASK) as pipeline:
                taken = sum(CATALOGUE[loaded].memory_gb for loaded in store.loaded_keys())
                if taken > 3.2 + 1e-9:
                    broken.append(f"{taken} GB")
                time.sleep(0.002 * random.random())
                if not pipeline.loaded or pipeline.spec.key != key:
                    broken.append(f"{key} was dropped in use")

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert broken == []
    assert all(slot.leases == 0 for slot in store._slots.values())
    store.unload_idle(0.0)
    assert sorted(FakePipeline.loads) == sorted(FakePipeline.unloads)


def test_one_model_that_cannot_fit_is_refused_before_anything_is_fetched(
    store: PipelineStore,
) -> None:
    small = PipelineStore(replace(store.settings, memory_gb=1.0), store.sources)
    small.build = FakePipeline
    for attempt in (lambda: list(small.fetch("clip-vit-l14", TASK)),
                    lambda: small.use("clip-vit-l14", TASK).__enter__()):  # fmt: skip
        with pytest.raises(MemoryLimitError, match=r"2\.1 GB .* budget .* 1\.0 GB"):
            attempt()
    assert FakePipeline.loads == []
    with small.use("demo-clip", TASK) as pipeline:
        assert pipeline.spec is DEMO_CLIP


def test_quantised_weights_take_less_of_the_budget(store: PipelineStore) -> None:
    """BLIP-2 takes 15 GB in float32; a demo model is never quantised."""
    blip2 = CATALOGUE["blip2-opt-2.7b"]
    for quantization, needed in (("none", 1.0), ("int8", 0.3), ("nf4", 0.2)):
        settings = replace(store.settings, quantization=quantization)  # type: ignore[arg-type]
        tight = PipelineStore(replace(settings, memory_gb=blip2.memory_gb * needed - 0.1))
        with pytest.raises(MemoryLimitError, match=f"needs {blip2.memory_gb * needed:.1f} GB"):
            list(tight.fetch(blip2.key, "caption"))
        roomy = PipelineStore(replace(settings, memory_gb=blip2.memory_gb * needed + 0.1))
        with pytest.raises(WeightsError):  # fits, but no hub is in reach
            list(roomy.fetch(blip2.key, "caption"))


def test_loading_one_model_does_not_hold_up_another(store: PipelineStore) -> None:
    with store.use("clip-vit-b32", TASK):
        pass
    loading, go_on = threading.Event(), threading.Event()

    def slow(key: str) -> None:
        loading.set()
        assert go_on.wait(10)

    FakePipeline.on_load = staticmethod(slow)
    other = threading.Thread(target=lambda: store.use("siglip2-b16", TASK).__enter__())
    other.start()
    assert loading.wait(10)
    with store.use("clip-vit-b32", TASK) as pipeline:  # would hang under a lock held to load
        assert pipeline.loaded
    go_on.set()
    other.join(10)


def test_a_failed_load_reaches_all_who_wait_and_the_next_try_works(store: PipelineStore) -> None:
    started = threading.Event()

    def fail(key: str) -> None:
        started.set()
        time.sleep(0.1)
        raise KeyError("no such tensor in /srv/models")

    FakePipeline.on_load = staticmethod(fail)
    errors = []

    def use() -> None:
        try:
            with store.use("clip-vit-b32", TASK):
                pass
        except WeightsError as error:
            errors.append(error.message)

    in_threads(4, use)
    assert len(errors) == 4
    assert all("/srv" not in message for message in errors)
    FakePipeline.on_load = staticmethod(lambda key: None)
    with store.use("clip-vit-b32", TASK) as pipeline:
        assert pipeline.loaded


def test_a_load_that_is_broken_off_leaves_nothing_half_loaded(store: PipelineStore) -> None:
    def interrupt(key: str) -> None:
        raise KeyboardInterrupt

    FakePipeline.on_load = staticmethod(interrupt)
    with pytest.raises(WeightsError, match="broken off"), store.use("clip-vit-b32", TASK):
        pass
    assert store.loaded_keys() == []
    FakePipeline.on_load = staticmethod(lambda key: None)
    with store.use("clip-vit-b32", TASK) as pipeline:
        assert pipeline.loaded


def test_who_asked_may_leave_while_a_model_is_loaded(store: PipelineStore) -> None:
    """It stays for whoever asks next, and is loaded once."""
    loading, release, loads = threading.Event(), threading.Event(), []

    def wait(key: str) -> None:
        loads.append(key)
        loading.set()
        assert release.wait(10)

    FakePipeline.on_load = staticmethod(wait)
    cancel = CancelToken(loading.is_set)
    with pytest.raises(Cancelled), store.use("clip-vit-b32", TASK, cancel):
        pass
    assert store._slots["clip-vit-b32"].leases == 1, "the load keeps it from being dropped"
    release.set()
    with store.use("clip-vit-b32", TASK) as pipeline:
        assert pipeline.loaded
    FakePipeline.on_load = staticmethod(lambda key: None)
    assert loads == ["clip-vit-b32"]
    assert store._slots["clip-vit-b32"].leases == 0


def test_no_memory_to_load_is_said_so(store: PipelineStore) -> None:
    def fill(key: str) -> None:
        torch.empty(10**15)

    FakePipeline.on_load = staticmethod(fill)
    with (
        pytest.raises(MemoryLimitError, match=r"clip-vit-b32 needs 0\.9 GB"),
        store.use("clip-vit-b32", TASK),
    ):
        pass
    assert store.loaded_keys() == []


def test_what_torch_raises_without_memory_is_known(store: PipelineStore) -> None:
    """The CPU allocator has no exception class of its own: this pins its text."""
    with pytest.raises(MemoryLimitError), store.use("clip-vit-b32", TASK):
        torch.empty(10**15)
    with pytest.raises(MemoryLimitError), store.use("clip-vit-b32", TASK):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_out_of_memory_names_need_and_budget_and_the_next_request_works(
    store: PipelineStore, error: Exception
) -> None:
    with (
        pytest.raises(MemoryLimitError, match=r"0\.9 GB of a budget of 3\.2 GB"),
        store.use("clip-vit-b32", TASK),
    ):
        raise error
    with store.use("clip-vit-b32", TASK) as pipeline:
        assert pipeline.loaded
    assert store._slots["clip-vit-b32"].leases == 0


def test_other_errors_pass_and_give_the_lease_back(store: PipelineStore) -> None:
    with pytest.raises(ZeroDivisionError), store.use("clip-vit-b32", TASK):
        raise ZeroDivisionError
    assert store._slots["clip-vit-b32"].leases == 0


def test_an_unknown_key_lists_the_valid_ones(store: PipelineStore) -> None:
    with pytest.raises(InputError, match="clip-vit-l14, clip-vit-b32"), store.use("gpt", TASK):
        pass


class Shelf(EverythingOnDisk):
    """A machine that holds some checkpoints and may or may not reach the hub."""

    def __init__(self, *keys: str, hub: bool) -> None:
        self.keys, self.hub = keys, hub

    def locate(self, spec: Any) -> Path | None:  # type: ignore[override]
        return Path("/nowhere") if spec.demo or spec.key in self.keys else None

    def hub_answers(self, **_: Any) -> bool:
        return self.hub


@pytest.mark.parametrize(
    ("models", "shelf", "memory_gb", "expected"),
    [
        ("bundled", Shelf("clip-vit-l14", hub=True), 8.0, DEMO_CLIP),
        ("hub", Shelf(hub=False), 8.0, CLIP_B32),
        ("auto", Shelf("clip-vit-b32", "clip-vit-l14", hub=False), 8.0, CLIP_L14),
        ("auto", Shelf("clip-vit-b32", "clip-vit-l14", hub=False), 1.0, CLIP_B32),
        ("auto", Shelf("siglip2-b16", hub=True), 8.0, SIGLIP2_B16),
        ("auto", Shelf("chinese-clip-b16", hub=True), 8.0, CHINESE_CLIP_B16),
        ("auto", Shelf(hub=True), 8.0, CLIP_B32),
        ("auto", Shelf(hub=True), 0.5, DEMO_CLIP),
        ("auto", Shelf(hub=False), 8.0, DEMO_CLIP),
    ],
)
def test_what_a_tab_starts_with(models: Any, shelf: Any, memory_gb: float, expected: Any) -> None:
    settings = Settings(models=models, device="cpu", dtype="float32", memory_gb=memory_gb)
    assert PipelineStore(settings, shelf).default_spec(TASK) is expected


@pytest.mark.parametrize(
    ("models", "shelf", "memory_gb", "expected"),
    [
        ("auto", Shelf(hub=True), 16.0, "blip2-opt-2.7b"),
        ("auto", Shelf(hub=True), 8.0, "blip-base"),
        ("auto", Shelf("blip2-opt-2.7b", "blip-base", hub=False), 8.0, "blip-base"),
        ("auto", Shelf("blip2-opt-2.7b", hub=True), 8.0, "blip-base"),
        ("hub", Shelf(hub=False), 8.0, "blip-base"),
        ("auto", Shelf(hub=True), 0.5, "demo-blip2"),
    ],
)
def test_where_blip2_does_not_fit_captions_start_with_a_smaller_model(
    models: Any, shelf: Any, memory_gb: float, expected: str
) -> None:
    settings = Settings(models=models, device="cpu", dtype="float32", memory_gb=memory_gb)
    assert PipelineStore(settings, shelf).default_spec("caption").key == expected


def test_the_choice_of_a_tab_waits_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited seconds for torch and a self-test; the page was that of the demo until then."""

    def choose(settings: Settings) -> Device:
        raise AssertionError("the device was chosen")

    monkeypatch.setattr("pipelines.serving.store.choose_device", choose)
    monkeypatch.setattr("pipelines.serving.store.likely_budget_gb", lambda settings: 1.5)
    store = PipelineStore(Settings(), Shelf("clip-vit-b32", "clip-vit-l14", hub=False))  # type: ignore[arg-type]
    assert store.default_spec(TASK) is CLIP_B32
    monkeypatch.setattr("pipelines.serving.store.memory_budget_gb", lambda settings, kind: 8.0)
    monkeypatch.setattr(
        "pipelines.serving.store.choose_device",
        lambda settings: Device("cpu", "float32", False, "test"),
    )
    assert store.device.kind == "cpu"
    assert store.default_spec(TASK) is CLIP_L14, "once it is known, its own memory counts"


def test_the_choice_of_a_tab_imports_no_torch() -> None:
    code = """
import sys
from pathlib import Path
from pipelines.core.settings import Settings
from pipelines.weights.locate import Sources
from pipelines.serving.store import PipelineStore, build_pipeline
Sources.locate = lambda self, spec: Path("/nowhere")
print(PipelineStore(Settings()).default_spec("image-text").key, "torch" in sys.modules)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["clip-vit-l14", "False"], done.stderr


def test_the_device_is_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def choose(settings: Settings) -> Device:
        calls.append(settings)
        return Device("cpu", "float32", False, "test")

    monkeypatch.setattr("pipelines.serving.store.choose_device", choose)
    store = PipelineStore(Settings())
    in_threads(8, lambda: str(store.device) and None)
    assert len(calls) == 1


def test_models_are_loaded_one_after_the_other(store: PipelineStore) -> None:
    loading, most = [0], [0]

    def load(key: str) -> None:
        loading[0] += 1
        most[0] = max(most[0], loading[0])
        time.sleep(0.1)
        loading[0] -= 1

    FakePipeline.on_load = staticmethod(load)

    def ask(key: str) -> None:
        with store.use(key, TASK):
            pass

    keys = ("clip-vit-b32", "siglip2-b16", "chinese-clip-b16")
    threads = [threading.Thread(target=ask, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(FakePipeline.loads) == sorted(keys)
    assert most == [1], "transformers breaks its classes where two are built at once"


def test_a_model_that_nobody_uses_is_dropped_after_a_while(store: PipelineStore) -> None:
    with store.use("clip-vit-b32", "image-text"):
        assert store.unload_idle(0.0) == []
    assert store.unload_idle(60.0) == []
    assert store.loaded_keys() == ["clip-vit-b32"]
    assert store.unload_idle(0.0) == ["clip-vit-b32"]
    assert FakePipeline.unloads == ["clip-vit-b32"]
    with store.use("clip-vit-b32", "image-text"):
        assert store.loaded_keys() == ["clip-vit-b32"]


def test_idle_models_are_looked_for_now_and_then(store: PipelineStore) -> None:
    with store.use("clip-vit-b32", "image-text"):
        start_unloading(store, 0.05, every_s=0.02)
        time.sleep(0.3)
        assert store.loaded_keys() == ["clip-vit-b32"]
    end = time.monotonic() + 30
    while store.loaded_keys():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_models_are_kept_for_ever_where_that_is_asked_for(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = threading.Semaphore(0)
    monkeypatch.setattr(memory.isolation, "end_idle", rounds.release)
    with store.use("clip-vit-b32", "image-text"):
        start_unloading(store, 0, every_s=0.02)
    for _ in range(3):
        assert rounds.acquire(timeout=30)
    assert store.loaded_keys() == ["clip-vit-b32"], "decoders are given up, models are not"


def test_giving_up_goes_on_after_a_failure(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = threading.Semaphore(0)

    def fail() -> None:
        rounds.release()
        raise OSError("no process")

    monkeypatch.setattr(memory.isolation, "end_idle", fail)
    start_unloading(store, 0.05, every_s=0.02)
    for _ in range(3):
        assert rounds.acquire(timeout=30)


def test_what_the_database_keeps_goes_with_the_models(store: PipelineStore) -> None:
    rested: queue.Queue[float] = queue.Queue()
    start_unloading(store, 0.05, release=rested.put, every_s=0.02)
    assert rested.get(timeout=30) == 0.05


def test_nothing_is_looked_for_once_the_store_is_gone(tmp_path: Path) -> None:
    gone = PipelineStore(Settings(work_dir=tmp_path))
    before = set(threading.enumerate())
    start_unloading(gone, 0.05, every_s=0.02)
    new = set(threading.enumerate()) - before
    (thread,) = [one for one in new if one.name == "unloading"]
    del gone
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_when_a_model_was_used_last(store: PipelineStore) -> None:
    assert store.last_used_s() is None
    with store.use("clip-vit-b32", "image-text"):
        assert store.last_used_s() is None
    used = store.last_used_s()
    assert used is not None
    assert used <= time.monotonic()
    store.unload_idle(0.0)
    dropped = store.last_used_s()
    assert dropped is not None
    assert dropped > used


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such pools")
def test_many_threads_share_few_pools_of_memory() -> None:
    program = """
import ctypes, sys, threading
from pipelines.serving.memory import share_free_memory
if sys.argv[1] == "share":
    share_free_memory()
libc, held = ctypes.CDLL(None), []
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(12)
def work():
    together.wait()
    for _ in range(200):
        held.append(libc.malloc(5000))
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""

    def num_pools(how: str) -> int:
        told = subprocess.run(
            [sys.executable, "-c", program, how],
            check=True, capture_output=True, text=True, cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"},
        ).stdout  # fmt: skip
        return told.count("<heap nr=")

    assert num_pools("share") <= 2 < num_pools("leave")


def test_free_memory_is_given_back_once_nobody_asks(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[int] = []
    libc = SimpleNamespace(malloc_trim=trimmed.append)
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: libc))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    start_trimming(store, quiet_s=0.1, every_s=0.02)
    with store.use("clip-vit-b32", "image-text"):
        time.sleep(0.3)
        assert trimmed == []
    end = time.monotonic() + 30
    while not trimmed:
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)
    assert trimmed == [0]  # once, not again and again


def test_free_memory_is_given_back_while_a_model_is_at_work(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[float] = []
    held_mb = [500.0]
    libc = SimpleNamespace(malloc_trim=lambda pad: trimmed.append(held_mb[0]))
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: libc))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory, "resident_mb", lambda: held_mb[0])
    with store.use("clip-vit-b32", "image-text"):
        start_trimming(store, every_s=0.02, growth_mb=100)
        held_mb[0] = 590.0
        time.sleep(0.3)
        assert trimmed == []
        held_mb[0] = 610.0
        end = time.monotonic() + 30
        while not trimmed:
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.3)
        assert trimmed == [610.0]
        held_mb[0] = 100.0  # a model was dropped
        time.sleep(0.3)
        held_mb[0] = 250.0
        end = time.monotonic() + 30
        while len(trimmed) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert trimmed == [610.0, 250.0]


def test_a_library_without_its_system_library_is_named(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ImportError("libGL.so.1: cannot open shared object file", name="cv2")

    def fail(*_: Any) -> None:
        raise missing

    store.build = build_pipeline
    monkeypatch.setattr("pipelines.serving.store.importlib.import_module", fail)
    with pytest.raises(WeightsError) as caught, store.use("clip-vit-b32", TASK):
        pass
    assert "package cv2" in caught.value.message
    assert "`python app.py doctor`" in caught.value.message
    assert "libGL" not in caught.value.message


def test_a_library_that_is_missing_while_a_model_is_loaded_is_named(
    store: PipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(key: str) -> None:
        raise ModuleNotFoundError("No module named 'ftfy.bad_codecs'", name="ftfy.bad_codecs")

    monkeypatch.setattr(FakePipeline, "on_load", staticmethod(fail))
    with pytest.raises(WeightsError, match="package ftfy,"), store.use("clip-vit-b32", TASK):
        pass
    assert not store.loaded_keys()

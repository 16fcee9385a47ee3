"""Live pipelines by catalogue entry: loaded once, leased, unloaded by a memory budget."""

import gc
import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from math import inf
from pathlib import Path
from threading import Thread
from typing import Any

from pipelines.compute.device import (
    Device,
    choose_device,
    import_libraries,
    is_out_of_memory,
    likely_budget_gb,
    memory_budget_gb,
)
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import MemoryLimitError, PipelineError, WeightsError
from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.base import Pipeline
from pipelines.models.catalogue import HUB_DEFAULTS, MODELS, find
from pipelines.serving.device_queue import POLL_S, DeviceQueue, release_threads
from pipelines.serving.metrics import Metrics
from pipelines.serving.remote_registry import RemoteModels, specs_of
from pipelines.weights.locate import Sources
from pipelines.weights.progress import FetchProgress

log = logging.getLogger(__name__)

#: Memory of a caption model with quantised layers, as a share of its float32 weights; embeddings
#: are not quantised. Counted for BLIP-2 OPT 2.7B it is 0.27 and 0.17.
QUANTIZED_SHARE = {"int8": 0.3, "nf4": 0.2}

#: Held while a model is built. transformers patches methods of its classes meanwhile and restores
#: what it found: of two models built at once, the second would restore the first one's patch, and
#: no checkpoint with shared weights could be read any more.
_LOADING = threading.Lock()

#: Seconds that a request waits for memory that models in use take.
LEASE_WAIT_S = 120.0

Builder = Callable[[ModelSpec, Path, Device, Settings], Pipeline]


@dataclass
class _Slot:
    """A pipeline, loaded or being loaded, with the number of requests that use or await it."""

    pipeline: Pipeline
    ready: threading.Event = field(default_factory=threading.Event)
    error: PipelineError | None = None
    leases: int = 1
    last_used: int = 0
    free_since_s: float = 0.0


class PipelineStore:
    """Loaded models, shared by all requests.

    `use` loads a model once for all concurrent requests, counts a lease while it is used and, where
    a new model does not fit, unloads the least recently used one without a lease.
    """

    def __init__(self, settings: Settings, sources: Sources | None = None) -> None:
        self.settings = settings
        self.models = (*MODELS, *specs_of(settings.remotes))
        self.sources = sources or Sources(settings)
        self.remotes = RemoteModels(settings)
        self.queue = DeviceQueue()
        self.metrics = Metrics()
        #: counts a use; figures that nobody can fetch are not counted
        self.counted = self.metrics.counted if settings.metrics else nullcontext
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._clock = count(1)
        self._last_used_s: float | None = None
        self._device: Device | None = None
        self._device_lock = threading.Lock()
        self._specs = {(spec.key, spec.task): spec for spec in self.models}
        self._demos = {spec.task: spec for spec in MODELS if spec.demo}
        self.build: Builder = build_pipeline

    @property
    def device(self) -> Device:
        """The compute device; chosen, with a self-test, at first use."""
        with self._device_lock:
            if self._device is None:
                self._device = choose_device(self.settings)
                release_threads()  # of the self-test
            return self._device

    def budget_gb(self) -> float:
        """Return the memory limit of all loaded models together, in GB."""
        return memory_budget_gb(self.settings, self.device.kind)

    def _budget_so_far_gb(self) -> float:
        return likely_budget_gb(self.settings) if self._device is None else self.budget_gb()

    def need_gb(self, spec: ModelSpec) -> float:
        """Return the memory of a model in GB, in the precision of the device once that is known."""
        share = QUANTIZED_SHARE.get(self.settings.quantization)
        if share is not None and spec.generative is not None and not spec.demo:
            return spec.memory_gb * share
        half = self._device is not None and self._device.dtype != "float32" and not spec.demo
        return spec.memory_gb / 2 if half else spec.memory_gb

    def default_spec(self, task: Task) -> ModelSpec:
        """Return the current meaning of `model=""` for `task`.

        "bundled": the demo model. "hub": the family's real default. "auto": the first remote model;
        else the best real model that is on disk and fits; else, where the hub answers, the default
        if it fits; else the demo model. Waits only in the last case, a few seconds for the hub;
        never for torch, as a page that opens meanwhile would start with the demo.
        """
        if self.settings.models == "bundled":
            return self._demos[task]
        remote = [spec for spec in self.models if spec.task == task and spec.remote is not None]
        if remote and self.settings.models == "auto":
            return remote[0]
        budget = self._budget_so_far_gb()
        defaults = HUB_DEFAULTS[task]
        fits = [spec for spec in defaults if self.need_gb(spec) <= budget]
        if self.settings.models == "hub":
            return (fits or defaults)[0]
        real = [spec for spec in MODELS if spec.task == task and not spec.demo]
        on_disk = [spec for spec in real if self.sources.locate(spec) is not None]
        fitting = [spec for spec in on_disk if self.need_gb(spec) <= budget]
        if fitting:
            return fitting[0]
        if fits and self.sources.hub_answers():
            return fits[0]
        return self._demos[task]

    def resolve(self, key: str, task: Task) -> ModelSpec:
        """Return the spec of `key`; the empty key is the task's default.

        Raises `InputError` for an unknown key; the message lists the valid ones.
        """
        if not key:
            return self.default_spec(task)
        spec = self._specs.get((key, task)) if isinstance(key, str) else None
        return spec or find(key, task, self.models)

    def fetch(self, key: str, task: Task) -> Iterator[FetchProgress]:
        """Yield progress until the weights of a model are on disk; call it before `use`.

        Raises:
            InputError: unknown key.
            WeightsError: the weights are not available.
            MemoryLimitError: the model would not fit.
        """
        return self.fetch_spec(self.resolve(key, task))

    def fetch_spec(self, spec: ModelSpec) -> Iterator[FetchProgress]:
        """Fetch the weights of a resolved spec; see `fetch`."""
        with self._lock:
            slot = self._slots.get(spec.key)
            is_loaded = slot is not None and slot.ready.is_set() and slot.error is None
        if is_loaded or spec.remote is not None:
            return iter(())
        self._check_fits(spec)
        return self.sources.fetch(spec)

    def fetch_stages(self, spec: ModelSpec, cancel: CancelToken) -> Iterator[Message]:
        """Yield each progress of `fetch_spec` as a line for people; `cancel` ends it."""
        for step in self.fetch_spec(spec):
            yield step.message(spec.title)
            cancel.check()

    @contextmanager
    def use_for_batch(self, spec: ModelSpec, cancel: CancelToken) -> Iterator[Any]:
        """Yield the pipeline of a resolved spec for the turn of one batch of a long run.

        Raises as `use` does, but waits for memory as long as other models use it.
        """
        with self.queue.batch(cancel), self.use_spec(spec, cancel, inf) as pipeline:
            yield pipeline

    @contextmanager
    def use(
        self, key: str, task: Task, cancel: CancelToken = NEVER, wait_s: float | None = None
    ) -> Iterator[Any]:
        """Yield the pipeline of `key`, loaded if need be, and keep it loaded during the block.

        A remote model takes no memory and is available at once, to any number of requests. `cancel`
        is checked a few times a second while other models fill the budget, for at most `wait_s`
        seconds (None for `LEASE_WAIT_S`), and while the model is loaded; loading continues for
        later requests.

        Raises:
            Cancelled: `cancel` is cancelled.
            InputError: unknown key.
            WeightsError: not on disk (call `fetch` first), damaged, or of another model.
            MemoryLimitError: it does not fit, or the work inside the block ran out of memory.
        """
        with self.use_spec(self.resolve(key, task), cancel, wait_s) as pipeline:
            yield pipeline

    @contextmanager
    def use_spec(
        self, spec: ModelSpec, cancel: CancelToken = NEVER, wait_s: float | None = None
    ) -> Iterator[Any]:
        """Yield the pipeline of a resolved spec; see `use`."""
        with self.counted(spec.key):
            if spec.remote is not None:
                yield self.remotes.of(spec)
                return
            slot = self._lease_loaded(spec) or self._lease(
                spec, cancel, LEASE_WAIT_S if wait_s is None else wait_s
            )
            with self._using(slot) as pipeline:
                yield pipeline

    def try_use(self, spec: ModelSpec) -> AbstractContextManager[Any] | None:
        """Return a context that yields the pipeline if it is loaded, else None; never waits.

        The context holds a lease already, so it must be entered.
        """
        slot = self._lease_loaded(spec)
        return None if slot is None else self._counted_use(slot)

    @contextmanager
    def _counted_use(self, slot: _Slot) -> Iterator[Any]:
        with self.counted(slot.pipeline.spec.key), self._using(slot) as pipeline:
            yield pipeline

    def has_room(self, spec: ModelSpec) -> bool:
        """Return whether a model is loaded, or fits beside the models in use."""
        with self._lock:
            if spec.key in self._slots:
                return True
            in_use = [slot.pipeline.spec for slot in self._slots.values() if slot.leases]
        return sum(map(self.need_gb, [*in_use, spec])) <= self.budget_gb()

    def revision(self, spec: ModelSpec) -> str:
        """Return an identifier of a model's weights, see `weights_revision`."""
        with self._lock:
            slot = self._slots.get(spec.key)
        return self.sources.revision(spec) if slot is None else slot.pipeline.revision

    def _lease_loaded(self, spec: ModelSpec) -> _Slot | None:
        """Return the slot of a loaded model with a lease on it; None where it is not loaded."""
        with self._lock:
            slot = self._slots.get(spec.key)
            if slot is None or not slot.ready.is_set() or slot.error is not None:
                return None
            slot.leases += 1
            slot.last_used = next(self._clock)
            return slot

    @contextmanager
    def _using(self, slot: _Slot) -> Iterator[Any]:
        """Yield the pipeline of a leased slot, and release it after the block."""
        spec = slot.pipeline.spec
        try:
            yield slot.pipeline
        except BaseException as error:
            if is_out_of_memory(error):
                gc.collect()
                raise MemoryLimitError(
                    "This request needs more memory than is free with {model} ({size:.1f} GB "
                    "of a budget of {budget:.1f} GB). Ask for less at once, or choose a "
                    "smaller model.",
                    model=spec.key,
                    size=self.need_gb(spec),
                    budget=self.budget_gb(),
                ) from error
            raise
        finally:
            self._release(slot)
            release_threads()  # those of this request

    def loaded_keys(self) -> list[str]:
        """Return the keys of the loaded models, least recently used first."""
        with self._lock:
            return sorted(self._slots, key=lambda key: self._slots[key].last_used)

    def unload_idle(self, idle_s: float) -> list[str]:
        """Unload the models without a use for `idle_s` seconds; return their keys."""
        latest = time.monotonic() - idle_s
        with self._lock:
            idle = [
                key
                for key, slot in self._slots.items()
                if not slot.leases and slot.free_since_s <= latest
            ]
            for key in idle:
                log.info("Unloading %s after %.0f s without use", key, idle_s)
                self._last_used_s = time.monotonic()
                self._slots.pop(key).pipeline.unload()
        return idle

    def last_used_s(self) -> float | None:
        """Return the time of the last use or unloading of a model, on the monotonic clock.

        None while one is in use, and before the first use.
        """
        with self._lock:
            in_use = any(slot.leases for slot in self._slots.values())
            return None if in_use else self._last_used_s

    def _check_fits(self, spec: ModelSpec) -> None:
        if spec.demo:  # always fits; do not wait for the device's self-test
            return
        budget = self.budget_gb()
        if self.need_gb(spec) > budget:
            raise MemoryLimitError(
                "{model} needs {size:.1f} GB but the budget for models is {budget:.1f} GB. "
                "Choose a smaller model, or raise --memory-gb.",
                model=spec.key,
                size=self.need_gb(spec),
                budget=budget,
            )

    def _lease(self, spec: ModelSpec, cancel: CancelToken, wait_s: float) -> _Slot:
        self._check_fits(spec)
        folder = self.sources.locate(spec)
        device = self.device
        slot, is_new = self._reserve(spec, folder, device, cancel, wait_s)
        if is_new:  # in its own thread, so that the request can end
            Thread(target=self._fill, args=(slot,), name=f"load-{spec.key}", daemon=True).start()
        try:
            while not slot.ready.wait(POLL_S):
                cancel.check()
            if slot.error is not None:
                raise type(slot.error)(slot.error.message, title=slot.error.title) from slot.error
        except BaseException:
            self._release(slot)
            raise
        return slot

    def _fill(self, slot: _Slot) -> None:
        """Load the pipeline of a new slot, then release the lease of the loading itself."""
        key = slot.pipeline.spec.key
        try:
            with _LOADING:
                self._load(slot.pipeline)
        except BaseException as error:
            broken_off = WeightsError("Loading {model} was broken off. Try again.", model=key)
            slot.error = error if isinstance(error, PipelineError) else broken_off
            with self._freed:
                self._slots.pop(key)
        finally:
            slot.ready.set()
            self._release(slot)

    def _reserve(
        self,
        spec: ModelSpec,
        folder: Path | None,
        device: Device,
        cancel: CancelToken,
        wait_s: float,
    ) -> tuple[_Slot, bool]:
        """Return a leased slot, and whether the caller has to load it.

        A new slot has a second lease, for the loading.
        """
        budget = self.budget_gb()
        give_up_at = time.monotonic() + wait_s
        with self._freed:
            while True:
                slot = self._slots.get(spec.key)
                if slot is not None:
                    slot.leases += 1
                    slot.last_used = next(self._clock)
                    return slot, False
                if folder is None:
                    raise WeightsError(
                        "The weights of {model} are not on this machine yet. Try again: they "
                        "are downloaded on first use.",
                        model=spec.key,
                    )
                if self._make_room(spec, budget, give_up_at, cancel):
                    pipeline = self.build(spec, folder, device, self.settings)
                    slot = _Slot(pipeline, leases=2, last_used=next(self._clock))
                    self._slots[spec.key] = slot
                    return slot, True

    def _make_room(
        self, spec: ModelSpec, budget: float, give_up_at: float, cancel: CancelToken
    ) -> bool:
        """Unload the longest idle model, or wait for one; return whether `spec` fits."""
        taken = sum(self.need_gb(slot.pipeline.spec) for slot in self._slots.values())
        if taken + self.need_gb(spec) <= budget or not self._slots:
            return True
        idle = [key for key, slot in self._slots.items() if not slot.leases]
        if idle:
            oldest = min(idle, key=lambda key: self._slots[key].last_used)
            log.info("Unloading %s to make room for %s", oldest, spec.key)
            self._slots.pop(oldest).pipeline.unload()
            return False
        cancel.check()
        left_s = give_up_at - time.monotonic()
        if left_s <= 0.0:
            raise MemoryLimitError(
                "{model} needs {size:.1f} GB but the models in use fill the budget of "
                "{budget:.1f} GB. Try again in a moment.",
                model=spec.key,
                size=self.need_gb(spec),
                budget=budget,
            )
        self._freed.wait(timeout=min(POLL_S, left_s))
        return False

    def _release(self, slot: _Slot) -> None:
        with self._freed:
            slot.leases -= 1
            self._last_used_s = slot.free_since_s = time.monotonic()
            self._freed.notify_all()

    def _load(self, pipeline: Pipeline) -> None:
        spec = pipeline.spec
        try:
            pipeline.load()
        except PipelineError:
            raise
        except ImportError as error:
            raise _not_importable(spec, error) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryLimitError(
                    "{model} needs {size:.1f} GB, more than is free. Close other programs, or "
                    "choose a smaller model.",
                    model=spec.key,
                    size=self.need_gb(spec),
                ) from error
            log.exception("Loading %s failed", spec.key)
            raise WeightsError(
                "The files of {model} on this machine cannot be loaded: they are damaged or of "
                "another model. Delete them so that they are fetched again, or correct "
                "--models-dir.",
                model=spec.key,
            ) from error


def build_pipeline(spec: ModelSpec, folder: Path, device: Device, settings: Settings) -> Pipeline:
    """Import the pipeline class that `spec` names and create one, without loading it.

    Raises `WeightsError` if a library that the class needs cannot be imported.
    """
    module, _, name = spec.pipeline.partition(":")
    try:
        import_libraries()
        made: type[Pipeline] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise _not_importable(spec, error) from error
    return made(spec, folder, device, settings)


def _not_importable(spec: ModelSpec, error: ImportError) -> WeightsError:
    log.error("A library of %s cannot be imported: %s", spec.key, error)
    return WeightsError(
        "{model} needs the package {package}, which cannot be imported on this machine. The "
        "operator of this server can run `python app.py doctor`: it says what is missing.",
        model=spec.key,
        package=(error.name or str(error)).partition(".")[0],
        title="Package not usable",
    )

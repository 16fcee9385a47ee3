"""Hugging Face ZeroGPU: a GPU for the duration of one call, in a forked process.

`spaces.GPU` runs a generator in a worker that is forked from this process: arguments and yielded
values are pickled, and changes of the worker's state are lost with it. So all work on the device
goes through one decorated generator, `PipelineStore.use` yields a proxy whose methods call it, and
new entries of caches come back with the results, so that later workers are forked with them. The
models that the tabs start with are loaded before the launch, in the main thread, where `spaces`
emulates CUDA; another model is loaded by each worker that needs it.
"""

import importlib
import inspect
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, get_args

from pipelines.compute.device import import_libraries, is_out_of_memory
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import MemoryLimitError, PipelineError
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.base import Pipeline
from pipelines.models.catalogue import CATALOGUE
from pipelines.models.video_chat import Part
from pipelines.serving.store import PipelineStore, build_pipeline

#: Fewest and most seconds of GPU that a call requests, which counts against a visitor's quota.
SHORTEST_S = 10
LONGEST_S = 120

#: Seconds for each token written, frame read, file read, and gigabyte loaded by a worker.
PER_TOKEN_S = 0.04
PER_FRAME_S = 0.15
PER_FILE_S = 0.2
PER_GB_S = 2.0

#: Methods that compute ahead of a question; a visitor's quota of the GPU is not for that.
PREFETCH_METHODS = frozenset({"estimate", "look"})

#: Kinds of values that a worker yields.
_ITEM, _VALUE, _ERROR, _CACHED = "item", "value", "error", "cached"

#: Held while the main process changes its caches, so that no worker is forked in between.
_CHANGING = threading.Lock()


def is_zero_gpu(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this is a ZeroGPU Space with the package `spaces`."""
    asked = environ.get("SPACES_ZERO_GPU", "").lower() in {"1", "t", "true"}
    return asked and find_spec("spaces") is not None


def make_store(settings: Settings) -> PipelineStore:
    """Return the store for this machine, on ZeroGPU with the tabs' models loaded.

    Call it in the main thread, before the launch, and before anything imports torch.
    """
    if not is_zero_gpu():
        return PipelineStore(settings)
    store = ZeroGpuStore(settings)
    store.preload()
    return store


class ZeroGpuStore(PipelineStore):
    """Store of proxies for pipelines, which live in forked workers."""

    def __init__(self, settings: Settings) -> None:
        import spaces

        super().__init__(settings)
        self._live: dict[str, Pipeline] = {}
        self.on_gpu = spaces.GPU(self._on_gpu, duration=self.seconds)
        os.register_at_fork(
            before=_CHANGING.acquire,
            after_in_parent=_CHANGING.release,
            after_in_child=_CHANGING.release,
        )

    def preload(self) -> None:
        """Load the models that the tabs start with; in the main thread, before the launch."""
        tasks: tuple[Task, ...] = get_args(Task)
        for task in tasks:
            spec = self.default_spec(task)
            if spec.remote is not None or (spec.demo and self.sources.locate(spec) is None):
                continue
            for _ in self.sources.fetch(spec):
                pass
            self._live[spec.key] = self._loaded(spec)

    @contextmanager
    def use_spec(
        self, spec: ModelSpec, cancel: CancelToken = NEVER, wait_s: float | None = None
    ) -> Iterator[Any]:
        """Yield a proxy for the pipeline of `spec`; see `PipelineStore.use`."""
        if spec.remote is not None:
            with super().use_spec(spec, cancel, wait_s) as remote:
                yield remote
            return
        with self.counted(spec.key):
            self._check_fits(spec)
            yield PipelineProxy(self, spec)

    def loaded_keys(self) -> list[str]:
        """Return the keys of the models that every worker is forked with."""
        return list(self._live)

    def seconds(
        self, key: str, method: str, args: Sequence[Any], options: Mapping[str, Any]
    ) -> int:
        """Return the seconds of GPU that a call requests, estimated from its arguments."""
        given = [*args, *options.values()]
        needed = float(SHORTEST_S)
        for value in given:
            if isinstance(value, GenerationOptions):
                needed += PER_TOKEN_S * value.max_new_tokens * value.num_beams
            elif isinstance(value, Part):
                needed += PER_FRAME_S * value.max_frames
            elif isinstance(value, list | tuple):
                needed += PER_FILE_S * len(value)
        if key not in self._live:
            needed += PER_GB_S * self.need_gb(self._spec(key))
        return min(int(needed), LONGEST_S)

    def keep(self, key: str, gained: Sequence[Mapping[Any, Any]]) -> None:
        """Add the new cache entries of a worker to the caches of this process."""
        live = self._live.get(key)
        if live is None:
            return
        with _CHANGING:
            for cache, values in zip(live.caches(), gained, strict=True):
                cache.update(values)

    def _on_gpu(
        self, key: str, method: str, args: Sequence[Any], options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """In the worker: call a method; yield its results, then the new cache entries."""
        try:
            pipeline = self._in_worker(key)
            before = [set(cache.snapshot()) for cache in pipeline.caches()]
            result = getattr(pipeline, method)(*args, **options)
            if isinstance(result, Iterator):
                for item in result:
                    yield _ITEM, item
            else:
                yield _VALUE, result
        except PipelineError as error:  # pickling would lose its class and title
            yield _ERROR, error
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            yield (
                _ERROR,
                MemoryLimitError(
                    "This request needs more memory than the GPU has free with {model}. Ask "
                    "for less at once, or choose a smaller model.",
                    model=key,
                ),
            )
            return
        gained = [
            {name: value for name, value in cache.snapshot().items() if name not in old}
            for cache, old in zip(pipeline.caches(), before, strict=True)
        ]
        yield _CACHED, gained

    def _in_worker(self, key: str) -> Pipeline:
        """Return the pipeline that this worker was forked with, or load one."""
        from pipelines.media.isolation import BUDGET

        pipeline = self._live.get(key)
        if pipeline is None:
            pipeline = self._live[key] = self._loaded(self._spec(key))
        if getattr(self, "_reset_in", 0) != os.getpid():
            self._reset_in = os.getpid()
            BUDGET.__init__(BUDGET.total)  # type: ignore[misc]  # threads that were not forked held some
        for cache in pipeline.caches():
            cache.enter_worker(pipeline.device.kind)
        return pipeline

    def _loaded(self, spec: ModelSpec) -> Pipeline:
        folder = self.sources.locate(spec)
        assert folder is not None  # fetched by `lease`
        pipeline = build_pipeline(spec, folder, self.device, self.settings)
        self._load(pipeline)
        return pipeline

    def _spec(self, key: str) -> ModelSpec:
        return CATALOGUE[key]


class PipelineProxy:
    """Proxy of a pipeline whose methods run in a worker."""

    def __init__(self, store: ZeroGpuStore, spec: ModelSpec) -> None:
        import_libraries()
        module, _, name = spec.pipeline.partition(":")
        self._store = store
        self._class: type[Pipeline] = getattr(importlib.import_module(module), name)
        self.spec = spec
        self.device = store.device
        self.settings = store.settings

    def __getattr__(self, name: str) -> Any:
        found = inspect.getattr_static(self._class, name)
        if isinstance(found, property):
            assert found.fget is not None
            return found.fget(self)
        streams = str(found.__annotations__.get("return", "")).startswith(
            ("collections.abc.Iterator", "collections.abc.Generator")
        )

        def call(*args: Any, **options: Any) -> Any:
            values = self._stream(name, args, options)
            if streams:
                return values
            (value,) = values
            return value

        return call

    def _stream(
        self, method: str, args: Sequence[Any], options: Mapping[str, Any]
    ) -> Iterator[Any]:
        if method in PREFETCH_METHODS:
            raise PipelineError(
                "On this Space nothing is computed ahead: ask, and the work begins.",
                title="Not on this Space",
            )
        call = self._store.on_gpu(self.spec.key, method, args, options)
        try:
            for kind, value in call:
                if kind == _ERROR:
                    raise value
                if kind == _CACHED:
                    self._store.keep(self.spec.key, value)
                else:
                    yield value
        finally:
            call.close()

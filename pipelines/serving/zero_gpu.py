"""Hugging Face ZeroGPU: there is a GPU for the length of one call, in a forked process.

`spaces.GPU` runs a generator in a worker that is forked from this process: arguments and what it
yields are pickled, and what it changes is lost with it. So all work on the device goes through one
decorated generator, `PipelineStore.use` lends a stand-in whose methods call it, and what caches
have gained comes back with the results, so that later workers are forked with it. The models that
the tabs start with are loaded before the launch, in the main thread, where `spaces` emulates CUDA;
another one is loaded by each worker that needs it. Torch-free until a model is used.
"""

import importlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from pipelines.models.video_chat import Part
from pipelines.serving.store import PipelineStore, build_pipeline

#: Seconds of GPU that a call asks for: at least, and at most. Only what is asked for counts
#: against a visitor's share.
SHORTEST_S = 10
LONGEST_S = 120

#: Seconds for each token written, frame looked at, and file read, and gigabyte loaded by a worker.
PER_TOKEN_S = 0.04
PER_FRAME_S = 0.15
PER_FILE_S = 0.2
PER_GB_S = 2.0

#: Methods that prepare what nobody has asked for yet; a visitor's share of the GPU is not for that.
GUESTS = frozenset({"estimate", "look"})

#: How a worker ends each call: what, and its value.
_ITEM, _VALUE, _ERROR, _KEPT = "item", "value", "error", "kept"

#: Held while the main process changes its caches, so that no worker is forked in between.
_CHANGING = threading.Lock()


def is_zero_gpu(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a ZeroGPU Space, with the package that lends its GPU."""
    asked = environ.get("SPACES_ZERO_GPU", "").lower() in {"1", "t", "true"}
    return asked and find_spec("spaces") is not None


def make_store(settings: Settings) -> PipelineStore:
    """Return the store that suits this machine, on ZeroGPU with the tabs' models loaded.

    To be called in the main thread, before the launch, and before anything imports torch.
    """
    if not is_zero_gpu():
        return PipelineStore(settings)
    store = ZeroGpuStore(settings)
    store.preload()
    return store


class ZeroGpuStore(PipelineStore):
    """Lends stand-ins for pipelines, which live in forked workers."""

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
        """Load what the tabs start with; in the main thread, before the launch."""
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
        self,
        spec: ModelSpec,
        cancel: CancelToken = NEVER,
        wait_s: float | None = None,
    ) -> Iterator[Any]:
        """Give a stand-in for the pipeline of `spec`; see `PipelineStore.use`."""
        if spec.remote is not None:
            with super().use_spec(spec, cancel, wait_s) as remote:
                yield remote
            return
        with self.metrics.counted(spec.key):
            self._check_fits(spec)
            yield StandIn(self, spec)

    def loaded_keys(self) -> list[str]:
        """Return the keys of the models that every worker is forked with."""
        return list(self._live)

    def seconds(
        self, key: str, method: str, args: Sequence[Any], options: Mapping[str, Any]
    ) -> int:
        """Return how many seconds of GPU a call asks for, by what it is to do."""
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
        """Take over what a worker's caches have gained."""
        live = self._live.get(key)
        if live is None:
            return
        with _CHANGING:
            for cache, values in zip(live.caches(), gained, strict=True):
                cache.take(values)

    def _on_gpu(
        self, key: str, method: str, args: Sequence[Any], options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """Call a method of a pipeline; in the worker. Yields what it gives, then the caches."""
        try:
            pipeline = self._in_worker(key)
            before = [set(cache.held()) for cache in pipeline.caches()]
            result = getattr(pipeline, method)(*args, **options)
            if isinstance(result, Iterator):
                for item in result:
                    yield _ITEM, item
            else:
                yield _VALUE, result
        except PipelineError as error:  # its class and title would be lost on the way
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
            {name: value for name, value in cache.held().items() if name not in old}
            for cache, old in zip(pipeline.caches(), before, strict=True)
        ]
        yield _KEPT, gained

    def _in_worker(self, key: str) -> Pipeline:
        """Return the pipeline that this worker was forked with, or load one."""
        from pipelines.media.isolation import BUDGET

        pipeline = self._live.get(key)
        if pipeline is None:
            pipeline = self._live[key] = self._loaded(self._spec(key))
        if getattr(self, "_at_home", 0) != os.getpid():
            self._at_home = os.getpid()
            BUDGET.__init__(BUDGET.total)  # type: ignore[misc]  # a thread left behind held some
        for cache in pipeline.caches():
            cache.move_in(pipeline.device.kind)
        return pipeline

    def _loaded(self, spec: ModelSpec) -> Pipeline:
        folder = self.sources.locate(spec)
        assert folder is not None  # `lease` has fetched it
        pipeline = build_pipeline(spec, folder, self.device, self.settings)
        self._load(pipeline)
        return pipeline

    def _spec(self, key: str) -> ModelSpec:
        from pipelines.models.catalogue import CATALOGUE

        return CATALOGUE[key]


class StandIn:
    """Answers like a pipeline, by calls that run in a worker."""

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
        return (lambda *a, **o: self._stream(name, a, o)) if streams else self._call_of(name)

    def _call_of(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            (value,) = self._stream(name, args, options)
            return value

        return call

    def _stream(
        self, method: str, args: Sequence[Any], options: Mapping[str, Any]
    ) -> Iterator[Any]:
        """Yield what the method gives; closing this ends the work."""
        if method in GUESTS:
            raise PipelineError(
                "On this Space nothing is computed ahead: ask, and the work begins.",
                title="Not on this Space",
            )
        call = self._store.on_gpu(self.spec.key, method, args, options)
        try:
            for what, value in call:
                if what == _ERROR:
                    raise value
                if what == _KEPT:
                    self._store.keep(self.spec.key, value)
                else:
                    yield value
        finally:
            call.close()

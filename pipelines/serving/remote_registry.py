"""Remote models as entries beside those of the catalogue."""

import importlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.core.messages import Message
from pipelines.core.remote import Remote
from pipelines.core.spec import ModelSpec, Task

if TYPE_CHECKING:
    from pipelines.core.settings import Settings
    from pipelines.models.remote.client import ChatServer

FAMILY = "remote"

#: Most simultaneous visitors of remote models: half of the queue, so that a slow server does not
#: block the models of this machine.
MOST_VISITORS = 32


def specs_of(remotes: Sequence[Remote]) -> tuple[ModelSpec, ...]:
    """Return a catalogue entry for each remote model and task: images, and videos if enabled.

    The entries of one remote share a key.
    """
    package = "pipelines.models.remote"
    images = [_spec(one, "caption", f"{package}.captions:RemoteCaptioner") for one in remotes]
    videos = [
        _spec(one, "video-chat", f"{package}.video_chat:RemoteVideoChat")
        for one in remotes
        if one.videos != "none"
    ]
    return (*images, *videos)


def _spec(remote: Remote, task: Task, pipeline: str) -> ModelSpec:
    return ModelSpec(
        key=remote.name,
        title=Message("{name}: through a server", name=remote.title or remote.name),
        task=task,
        family=FAMILY,
        pipeline=pipeline,
        repo=remote.model,
        revision="",
        licence=remote.licence,
        memory_gb=0.0,
        download_gb=0.0,
        remote=remote,
    )


class RemoteModels:
    """Remote models, each created at its first use, with one client for each server."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._servers: dict[str, ChatServer] = {}
        self._made: dict[tuple[str, Task], Any] = {}
        self._num_visitors = 0

    def of(self, spec: ModelSpec) -> Any:
        """Return the model of a spec whose `remote` is set."""
        from pipelines.models.remote.client import ChatServer

        assert spec.remote is not None
        with self._lock:
            if (spec.key, spec.task) not in self._made:
                server = self._servers.setdefault(spec.key, ChatServer(spec.remote))
                module, _, name = spec.pipeline.partition(":")
                made = getattr(importlib.import_module(module), name)
                self._made[spec.key, spec.task] = made(spec, self._settings, server)
            return self._made[spec.key, spec.task]

    @contextmanager
    def visitor(self, remote: Remote) -> Iterator[None]:
        """Count a visitor of remote models for the duration of the block.

        Raises `ServerError` if there are `MOST_VISITORS` already.
        """
        from pipelines.models.remote.errors import TOO_MANY, failure

        with self._lock:
            if self._num_visitors >= MOST_VISITORS:
                raise failure(remote, TOO_MANY, count=self._num_visitors)
            self._num_visitors += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_visitors -= 1

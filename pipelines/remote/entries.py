"""Remote models as entries beside those of the catalogue. Torch-free."""

import importlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.remote.servers import Remote
from pipelines.spec import ModelSpec, Task

if TYPE_CHECKING:
    from pipelines.remote.chat import ChatServer
    from pipelines.settings import Settings

FAMILY = "remote"


def specs_of(remotes: Sequence[Remote]) -> tuple[ModelSpec, ...]:
    """Return an entry for each remote model and task: pictures, and videos where it takes them.

    The entries of a remote have one key; they take no memory, and no file of theirs is on disk.
    """
    made = [_spec(one, "caption", "pipelines.remote.pictures:RemotePictures") for one in remotes]
    return (
        *made,
        *(
            _spec(one, "video-chat", "pipelines.remote.films:RemoteFilms")
            for one in remotes
            if one.videos != "none"
        ),
    )


def _spec(remote: Remote, task: Task, pipeline: str) -> ModelSpec:
    return ModelSpec(
        key=remote.name,
        title=f"{remote.title or remote.name}: through a server",
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
    """The remote models of an app, each made when it is first asked for; one server for each."""

    def __init__(self, settings: "Settings") -> None:
        """Remember the settings; nobody is asked."""
        self._settings = settings
        self._lock = threading.Lock()
        self._servers: dict[str, ChatServer] = {}
        self._made: dict[tuple[str, Task], Any] = {}

    def of(self, spec: ModelSpec) -> Any:
        """Return what answers for a spec, whose `remote` is set."""
        from pipelines.remote.chat import ChatServer

        assert spec.remote is not None
        with self._lock:
            if (spec.key, spec.task) not in self._made:
                server = self._servers.setdefault(spec.key, ChatServer(spec.remote))
                module, _, name = spec.pipeline.partition(":")
                made = getattr(importlib.import_module(module), name)
                self._made[spec.key, spec.task] = made(spec, self._settings, server)
            return self._made[spec.key, spec.task]

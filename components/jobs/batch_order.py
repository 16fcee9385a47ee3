"""A batch run for the Batch tab and its endpoint: its request, and how a visitor ends it."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

from components.server.uploads import Uploads
from pipelines.batch.captioner import TASK
from pipelines.batch.job import BatchRequest
from pipelines.batch.ledger import LedgerFolder
from pipelines.core.errors import InputError, type_name
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore

#: How a visitor ends a run: to go on later, or for good.
Wish = Literal["pause", "cancel"]

#: File in the folder of a run that has ended.
_OVER = ".over"


def make_order(
    store: PipelineStore,
    uploads: Uploads,
    files: Sequence[Any] | None,
    model: str,
    prompt: str | None,
    options: GenerationOptions,
    *,
    owner: str | None = "",
    pictures: bool = False,
) -> BatchRequest:
    """Return the request of a run on uploaded files, as Gradio hands them over.

    Every caption continues `prompt`. The secret `owner` resumes earlier runs, "" none. With
    `pictures`, thumbnails of the last images are made.

    Raises:
        InputError: no files, not uploaded ones, or an unknown model.
    """
    named = uploads.images(files, "files")
    if not named:
        raise InputError(
            "No files were given. Choose some images, or one zip of images.", title="No file"
        )
    prompt, owner = "" if prompt is None else prompt, "" if owner is None else owner
    if not isinstance(prompt, str):
        raise InputError("prompt must be text but got {given}.", given=type_name(prompt))
    if not isinstance(owner, str):
        raise InputError("resume_key must be text but got {given}.", given=type_name(owner))
    folder = _folder(store.settings, secrets.token_urlsafe(16))
    spec = store.resolve(model, TASK)
    folder.mkdir(parents=True)
    return BatchRequest(
        paths=[file.path for file in named],
        names=[file.name for file in named],
        spec=spec,
        prompt=prompt,
        options=options,
        folder=folder,
        ledgers=LedgerFolder(store.settings.work_dir / "results" / "ledgers", owner),
        pictures=pictures,
    )


def wish(settings: Settings, key: str, what: Wish) -> bool:
    """Ask the run whose results go to the folder named `key` to end.

    The wish lies in the run's own folder, so that nothing of a visitor lives in the app. Returns
    whether it was not asked before; then it is running, or over of its own.
    """
    folder = _folder(settings, key)
    if not key or not folder.is_dir() or wished(folder):
        return False
    (folder / f".{what}").touch()
    return True


def is_over(settings: Settings, key: str) -> bool:
    """Return whether the run whose results go to the folder named `key` has ended."""
    folder = _folder(settings, key)
    return not folder.is_dir() or (folder / _OVER).exists()


def note_over(folder: Path) -> None:
    """Note in the folder of a run that it has ended; a full disk is reported elsewhere."""
    with suppress(OSError):
        (folder / _OVER).touch()


def wished(folder: Path) -> Wish | None:
    """Return how the run of a folder was asked to end, if it was."""
    for what in get_args(Wish):
        if (folder / f".{what}").exists():
            return what  # type: ignore[no-any-return]
    return None


def _folder(settings: Settings, key: str) -> Path:
    return settings.work_dir / "results" / key

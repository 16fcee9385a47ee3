"""Uploaded files: only those in the app's own upload folder are opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.core.errors import InputError, MediaError, kind_of
from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.media.images import open_image
from pipelines.media.named_image import NamedImage

#: Most files of one request.
MOST_FILES = 20_000

#: Short side in pixels to which an image is decoded that is only checked.
_CHECK_PX = 224


class Uploads:
    """Guard of the paths in requests.

    A raw request can name any path of the server, and Gradio checks it only where the request
    calls it a file. So a path is accepted only if it lies in the upload folder.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.work_dir.resolve()
        self._max_bytes = int(settings.max_upload_mb * 1e6)
        self._max_pixels = int(settings.max_pixels_mp * 1e6)

    def path(self, value: Any, name: str) -> Path:
        """Return the path of an uploaded file.

        Args:
            value: a path, or a dictionary with "path" as Gradio hands it over.
            name: what it is, for the message.

        Raises:
            InputError: there is no file, or it was not uploaded to this app.
            MediaError: it is larger than allowed.
        """
        text = value.get("path") if isinstance(value, dict) else value
        if not text:
            raise InputError(
                "{name} is missing. Upload or choose a file.", name=Message(name), title="No file"
            )
        if not isinstance(text, str) or "\0" in text:
            raise InputError(
                "{name} must be an uploaded file. Upload it and try again.", name=Message(name)
            )
        path = Path(text)
        try:
            resolved = path.resolve()
            inside = resolved.is_relative_to(self._folder) and resolved.is_file()
            size = resolved.stat().st_size if inside else 0
        except (OSError, ValueError, RuntimeError):
            inside, size = False, 0
        if not inside:
            raise InputError(
                "{name} is not a file that was uploaded to this app, or it was deleted since. "
                "Upload it again; scripts use gradio_client's handle_file().",
                name=Message(name),
            )
        if size > self._max_bytes:
            raise MediaError(
                "{name!r} has {size:.0f} MB; the limit is {limit:.0f} MB. Shrink it and try again.",
                name=path.name,
                size=size / 1e6,
                limit=self._max_bytes / 1e6,
            )
        return resolved

    def paths(self, values: Any, name: str) -> list[Path]:
        """Return the paths of several uploaded files, at least one; see `path`."""
        if values is None or values == "" or values == []:
            raise InputError(
                "{name} is missing. Upload or choose a file.", name=Message(name), title="No file"
            )
        several = values if isinstance(values, (list, tuple)) else [values]
        _check_number(several, name)
        return [self.path(value, name) for value in several]

    def image(self, value: Any, name: str) -> NamedImage | None:
        """Return an uploaded image with its original name, or None."""
        return self._named(value, name) if value else None

    def _named(self, value: Any, name: str) -> NamedImage:
        path = self.path(value, name)
        given = value.get("orig_name") if isinstance(value, dict) else None
        return NamedImage(path, Path(str(given)).name[:120] if given else path.name)

    def check_image(self, value: Any, name: str) -> None:
        """Open an uploaded image.

        Raises:
            InputError, MediaError: see `path` and `open_image`.
        """
        open_image(self.path(value, name), max_pixels=self._max_pixels, draft_px=_CHECK_PX)

    def images(self, values: Any, name: str) -> list[NamedImage]:
        """Return several uploaded images; see `path`."""
        if values is None:
            return []
        if not isinstance(values, (list, tuple)):
            raise InputError(
                "{name} must be a list of files but got {given}.",
                name=Message(name),
                given=kind_of(values),
            )
        _check_number(values, name)
        return [self._named(value, f"{name}[{i}]") for i, value in enumerate(values)]


def _check_number(values: Sequence[Any], name: str) -> None:
    if len(values) > MOST_FILES:
        raise InputError(
            "{name} must be at most {limit:,} files but got {count:,}. Split them over "
            "several requests.",
            name=Message(name),
            limit=MOST_FILES,
            count=len(values),
        )


def one_query(text: str, image: NamedImage | None) -> str | NamedImage:
    """Return the one query that is given, text or image.

    Raises:
        InputError: none is given, or both are.
    """
    if text is not None and not isinstance(text, str):
        raise InputError("A text as the query must be text but got {given}.", given=kind_of(text))
    text = (text or "").strip()
    if text and image is not None:
        raise InputError("Give a text or an image as the query, not both.")
    if not text and image is None:
        raise InputError("The query is missing. Give a text or an image to compare with.")
    return image if image is not None else text

"""Checks of the file paths in a request, and fetching of links; `body_limit` limits the upload.

Only files in the app's own upload folder are opened. Links are fetched into it here, within
bounds, never by Gradio.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio

from components.server.gradio_internals import (
    FILE_ROUTE,
    hash_link,
    strip_invalid_filename_characters,
    traverse,
)
from pipelines.core.errors import InputError, MediaError, PipelineError, type_name
from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.core.text import bounded_name
from pipelines.media.images import NamedImage, open_image
from pipelines.media.links import FETCH_S, Allowed, FetchLimits, fetch, is_public
from pipelines.serving.work_dir import no_uploads_because, unwritable, with_advice

#: Most files of one request.
MOST_FILES = 20_000

#: Longest name of a file: 255 code units of UTF-16, the limit of Windows and macOS, as UTF-8.
MAX_NAME_BYTES = 255 * 3

#: Short side in pixels to which an image is decoded that is only checked.
_CHECK_PX = 224


class Uploads:
    """Check of the file paths in requests.

    A raw request can name any path of the server, and Gradio checks it only where the request
    calls it a file. So a path is accepted only if it lies in the upload folder.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.work_dir.resolve()
        self._max_bytes = int(settings.max_upload_mb * 1e6)
        self._max_pixels = int(settings.max_pixels_mp * 1e6)

    def path(self, value: Any, name: str) -> Path:
        """Return the path of an uploaded file, called `name` in messages.

        A value is a path, or a dictionary with "path" as Gradio hands it over.

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
        several = values if isinstance(values, (list, tuple)) else [values]
        _check_number(several, name)
        return [self.path(value, name) for value in several or [None]]

    def image(self, value: Any, name: str) -> NamedImage | None:
        """Return an uploaded image with its original name, or None."""
        return self._named(value, name) if value else None

    def _named(self, value: Any, name: str) -> NamedImage:
        path = self.path(value, name)
        given = value.get("orig_name") if isinstance(value, dict) else None
        given_name = Path(str(given)).name if given else path.name
        return NamedImage(path, bounded_name(given_name, MAX_NAME_BYTES))

    def check_image(self, value: Any, name: str) -> None:
        """Open an uploaded image; for its errors see `path` and `open_image`."""
        open_image(self.path(value, name), max_pixels=self._max_pixels, draft_px=_CHECK_PX)

    def images(self, values: Any, name: str) -> list[NamedImage]:
        """Return several uploaded images; see `path`."""
        if values is None:
            return []
        if not isinstance(values, (list, tuple)):
            raise InputError(
                "{name} must be a list of files but got {given}.",
                name=Message(name),
                given=type_name(values),
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
        raise InputError("A text as the query must be text but got {given}.", given=type_name(text))
    text = (text or "").strip()
    if text and image is not None:
        raise InputError("Give a text or an image as the query, not both.")
    if not text and image is None:
        raise InputError("The query is missing. Give a text or an image to compare with.")
    return image if image is not None else text


#: Seconds that all links of one request may take.
REQUEST_S = 300.0

#: Links of one request that are fetched at once.
AT_ONCE = 4

#: Seconds for which a fetched file is reused for its link; half of what
#: `pipelines.serving.work_dir` keeps it.
KEPT_S = 1800.0


class Links:
    """Fetches links into the upload folder."""

    def __init__(
        self, settings: Settings, allowed: Allowed = is_public, fetch_s: float = FETCH_S
    ) -> None:
        self._settings = settings
        self._bounds = FetchLimits(
            max_bytes=int(settings.max_upload_mb * 1e6), deadline_s=fetch_s, allowed=allowed
        )

    async def fetched(self, inputs: Any, local_url: str | None) -> Any:
        """Return the inputs of a request, of any depth, with files for links as Gradio makes them.

        A link to an upload of this app, at `local_url` once it listens, becomes the path of that
        upload: links to this machine are never fetched. The path is checked like any other in a
        request.

        Raises:
            InputError: a link cannot be fetched, or all of them take too long.
            MediaError: a file is too large, or there is no room for it.
        """
        files: dict[str, str] = {}
        traverse(inputs, lambda file: files.update({file["path"]: ""}), is_link)
        if not files:
            return inputs
        files = {link: _own_path(link, local_url) for link in files}
        await self._fetch_within_limits([link for link, path in files.items() if not path], files)
        return traverse(
            inputs, lambda file: {**file, "path": files[file["path"]], "url": None}, is_link
        )

    async def _fetch_within_limits(self, links: list[str], files: dict[str, str]) -> None:
        if len(links) > MOST_FILES:
            raise InputError(
                "A request may name at most {limit:,} links but got {count:,}. Split them "
                "over several requests.",
                limit=MOST_FILES,
                count=len(links),
            )
        try:
            with anyio.fail_after(REQUEST_S):
                await self._fetch_all(links, files)
        except TimeoutError as error:
            raise InputError(
                "The {count:,} links of this request did not give their files within "
                "{seconds:.0f} s. Send fewer at once, or upload the files instead.",
                count=len(links),
                seconds=REQUEST_S,
                title="Check your links",
            ) from error

    async def no_room(self) -> str:
        """Return a sentence on why no file can be stored, "" where one can."""
        full = await anyio.to_thread.run_sync(no_uploads_because, self._settings)
        return with_advice(full) if full else ""

    async def _fetch_all(self, links: list[str], files: dict[str, str]) -> None:
        failures: list[PipelineError] = []
        left = iter(links)

        async def fill_in() -> None:
            for link in left:
                try:
                    files[link] = str(await self._file_of(link))
                except PipelineError as error:
                    failures.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(fill_in)
        if failures:
            raise failures[0]

    async def _file_of(self, link: str) -> Path:
        try:
            name = _name_of(link)
            folder = self._settings.work_dir.resolve() / hash_link(link)
        except ValueError as error:  # half a code point, or half an address
            raise InputError(
                "A link of this request is none that can be read. Check the link, or upload the "
                "file instead.",
                title="Check your link",
            ) from error
        file = folder / name
        if await anyio.to_thread.run_sync(_is_fresh, file):
            return file
        full = await self.no_room()
        if full:
            raise MediaError(full, title="No room")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as half:
                await fetch(link, Path(half) / name, self._bounds)
                (Path(half) / name).replace(file)
        except OSError as error:
            raise MediaError(with_advice(unwritable(error)), title="No room") from error
        return file


def _name_of(link: str) -> str:
    """Return the file name of a link as Gradio makes it."""
    name = strip_invalid_filename_characters(Path(urlsplit(link).path.rstrip("/")).name)
    return "file" if name in {"", ".", ".."} else name


def _is_fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < KEPT_S
    except OSError:
        return False


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})


def is_link(value: Any) -> bool:
    """Return whether a value of a request is a file given by its link."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("path"), str)
        and value["path"].startswith(("http://", "https://"))
        and isinstance(value.get("meta"), dict)
    )


def _own_path(link: str, local_url: str | None) -> str:
    """Return the path in a link to this app, "" for other links."""
    if local_url is None:
        return ""
    try:
        asked, ours = urlsplit(link), urlsplit(local_url)
        same = asked.port == ours.port and asked.hostname in _LOOPBACK | {ours.hostname}
    except ValueError:  # a port that is no number
        return ""
    served = asked.path.startswith(FILE_ROUTE)
    return unquote(asked.path.removeprefix(FILE_ROUTE)) if same and served else ""

"""Links in place of files in a request: fetched here, within bounds, never by Gradio."""

import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio

from components.server.gradio_internals import (
    FILE_ROUTE,
    hash_link,
    is_link,
    strip_invalid_filename_characters,
    traverse,
)
from components.server.uploads import MOST_FILES
from pipelines.core.errors import InputError, MediaError, PipelineError
from pipelines.core.settings import Settings
from pipelines.media.links import FETCH_S, Allowed, Bounds, fetch, is_public
from pipelines.serving.work_dir import no_uploads_because, unwritable, with_advice

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
        """Fetch into the upload folder of `settings`, from addresses that `allowed` accepts."""
        self._settings = settings
        self._bounds = Bounds(
            max_bytes=int(settings.max_upload_mb * 1e6), deadline_s=fetch_s, allowed=allowed
        )

    async def fetched(self, inputs: Any) -> Any:
        """Return the inputs of a request with files for links, as Gradio would fetch them.

        Args:
            inputs: what a request holds, of any depth.

        Raises:
            InputError: a link cannot be fetched, or all of them take too long.
            MediaError: a file is too large, or there is no room for it.
        """
        links: dict[str, Path] = {}
        traverse(inputs, lambda file: links.update({file["path"]: Path()}), is_link)
        if not links:
            return inputs
        if len(links) > MOST_FILES:
            raise InputError(
                "A request may name at most {limit:,} links but got {count:,}. Split them "
                "over several requests.",
                limit=MOST_FILES,
                count=len(links),
            )
        try:
            with anyio.fail_after(REQUEST_S):
                await self._fetch_all(links)
        except TimeoutError as error:
            raise InputError(
                "The {count:,} links of this request did not give their files within "
                "{seconds:.0f} s. Send fewer at once, or upload the files instead.",
                count=len(links),
                seconds=REQUEST_S,
                title="Check your links",
            ) from error
        return traverse(
            inputs, lambda file: {**file, "path": str(links[file["path"]]), "url": None}, is_link
        )

    async def no_room(self) -> str:
        """Return a sentence on why no file can be stored, "" where one can."""
        full = await anyio.to_thread.run_sync(no_uploads_because, self._settings)
        return with_advice(full) if full else ""

    async def _fetch_all(self, links: dict[str, Path]) -> None:
        """Set the file of each link; the first failure ends all."""
        failures: list[PipelineError] = []
        left = iter(list(links))

        async def fill_in() -> None:
            for link in left:
                try:
                    links[link] = await self._file_of(link)
                except PipelineError as error:
                    failures.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(fill_in)
        if failures:
            raise failures[0]

    async def _file_of(self, link: str) -> Path:
        """Return the file of a link, fetched now or before."""
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


def own_links(inputs: Any, local_url: str | None) -> Any:
    """Return the inputs of a request with links to this app's own uploads as files.

    Links to this machine are never fetched, so without this an upload to an app on one's own
    machine could not be named by its link. The path is checked like any other in a request.

    Args:
        inputs: what a request holds, of any depth.
        local_url: address of this app, None before it listens.
    """
    if local_url is None:
        return inputs
    if isinstance(inputs, list):
        return [own_links(value, local_url) for value in inputs]
    if not isinstance(inputs, dict):
        return inputs
    path = _own_path(inputs.get("path"), local_url)
    if path and isinstance(inputs.get("meta"), dict):
        return {**inputs, "path": path, "url": None}
    return {key: own_links(value, local_url) for key, value in inputs.items()}


def _own_path(link: Any, local_url: str) -> str:
    """Return the path in a link to this app, "" for other links."""
    if not isinstance(link, str) or not link.startswith(("http://", "https://")):
        return ""
    try:
        asked, ours = urlsplit(link), urlsplit(local_url)
        same = asked.port == ours.port and asked.hostname in _LOOPBACK | {ours.hostname}
    except ValueError:  # a port that is no number
        return ""
    served = asked.path.startswith(FILE_ROUTE)
    return unquote(asked.path.removeprefix(FILE_ROUTE)) if same and served else ""

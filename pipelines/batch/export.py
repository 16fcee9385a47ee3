"""Results of a run, their files, and errors of the disk.

A file appears under its name once it is whole.
"""

import csv
import errno
import json
import os
import platform
import re
import shutil
import threading
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.core.errors import PipelineError
from pipelines.core.messages import Message
from pipelines.core.text import bounded_name, safe_cells
from pipelines.media.inputs import BatchInput

Origin = Literal["model", "known", "existing", "none"]
Existing = Literal["skip", "overwrite", "append", "prepend"]

#: Disk full, quota exceeded, file too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Name of an unfinished small file, and age in seconds at which its process must have been killed:
#: it exists for milliseconds.
_PART_PREFIX, _PART_SUFFIX = ".seesay-caption-", ".part"
_PART_STALE_S = 60.0


@dataclass(frozen=True)
class Captioned:
    """The model's caption of one image, with notes, or why it has none."""

    text: str
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Result of one input.

    Attributes:
        index: position of the input in the run, from 0.
        file: the input's name, unique in the run.
        caption: the caption; for an "existing" caption file, its text.
        text: text of the caption file: `caption`, joined with the existing text if requested.
        error: why there is no caption, or "".
        hash: SHA-256 of the file's bytes in hexadecimal digits; "" if they were not read.
        origin: source of the caption: the model; "known" from an earlier run or from the same
            content earlier in this one; "existing" beside the image; "none" with an error.
    """

    index: int
    file: str
    caption: str
    text: str
    error: str
    hash: str
    origin: Origin
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.error) != (self.origin == "none") or (self.error and self.caption):
            raise ValueError(f"a result has a caption or an error but got both or none: {self}")


def joined(existing: str, caption: str, how: Existing, separator: str) -> str:
    """Return the text of a caption file, given its existing text, or "".

    "append" and "prepend" join the two; otherwise the caption replaces the text. A second call
    changes nothing, so that an interrupted run can be continued.
    """
    if not existing or how not in ("append", "prepend"):
        return caption
    if not caption or existing == caption:
        return existing
    if how == "append":
        tail = separator + caption
        return existing if existing.endswith(tail) else existing + tail
    head = caption + separator
    return existing if existing.startswith(head) else head + existing


#: Longest name of a zip, so that there is room for ".partial".
_ZIP_NAME_BYTES = 240

#: Formats of `Exports`.
FORMATS = ("jsonl", "csv", "metadata", "txt", "zip")


class Table(ABC):
    """A table of results in a folder, complete once it is closed."""

    format: str
    name: str

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
        self._file = self.path.open("w", encoding="utf-8", errors="replace", newline="")
        self.close = self.finish = self._file.close

    @abstractmethod
    def add(self, result: BatchResult) -> None:
        """Write one result."""


class JsonLines(Table):
    """Each result as one JSON object a line: file, caption, error, text, hash, notes."""

    format, name = "jsonl", "captions.jsonl"

    def add(self, result: BatchResult) -> None:
        """Write every text exactly as it is; see `BatchResult`."""
        names = ("file", "caption", "error", "text", "hash", "notes")
        row = {name: getattr(result, name) for name in names}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


class Csv(Table):
    """A table for spreadsheets: file, caption, error, notes.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front (`safe_cells`). The
    file begins with a byte order mark, without which Excel garbles all but English.
    """

    format, name = "csv", "captions.csv"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._file.write("\ufeff")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["file", "caption", "error", "notes"])

    def add(self, result: BatchResult) -> None:
        """Write one row."""
        cells = (result.file, result.caption, result.error, " ".join(result.notes))
        self._writer.writerow(safe_cells(cells))


class Metadata(Table):
    """`metadata.jsonl` for the `imagefolder` loader of Hugging Face `datasets`.

    It belongs at the top of the images' folder; images without a caption are not in it.
    """

    format, name = "metadata", "metadata.jsonl"

    def add(self, result: BatchResult) -> None:
        """Write `file_name` and `text`."""
        if not result.error:
            row = {"file_name": result.file, "text": result.text}
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


#: Tables in the order of the zip.
TABLES = (JsonLines, Csv, Metadata)


class TextFiles:
    """A caption file beside each image, written atomically; inputs in an archive get none.

    `unwritten` has (image, reason) of each caption file that could not be written.
    """

    def __init__(self, items: Sequence[BatchInput]) -> None:
        self._items = items
        self.unwritten: list[tuple[str, str]] = []
        places = (item.source.caption_path for item in items)
        remove_stale_parts({path.parent for path in places if path is not None})

    def add(self, result: BatchResult) -> None:
        """Write the caption's text, unless the file holds it or there is none.

        A failed write goes to `unwritten`; the caption itself is in the tables.

        Raises:
            DiskError: the disk is full.
        """
        path = self._items[result.index].source.caption_path
        if path is None or result.error or result.origin == "existing":
            return
        data = result.text + "\n"
        try:
            if path.exists() and path.read_bytes() == data.encode("utf-8", "replace"):
                return
            replace_text(path, data)
        except OSError as error:
            if is_full(error):
                raise disk_error(error, "a caption file") from error
            self.unwritten.append((result.file, error.strerror or "no reason given"))


class ResultsZip:
    """All results in one zip: `captions.jsonl`, `captions.csv`, `metadata.jsonl`, caption files.

    The caption files are in the folder `captions`. An archive takes one file after the other, so
    the tables are collected in the folder `spool` until the end.
    """

    def __init__(self, path: Path, spool: Path, items: Sequence[BatchInput]) -> None:
        self.path = path
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self._items = items
        self._tables = [kind(spool) for kind in TABLES]

    def add(self, result: BatchResult) -> None:
        """Write one result to each table, and its caption file."""
        for table in self._tables:
            table.add(result)
        if not result.error:
            name = f"captions/{self._items[result.index].caption_name}"
            self._archive.writestr(name, (result.text + "\n").encode("utf-8", "replace"))

    def finish(self) -> None:
        """Put the tables into the archive and close it."""
        for table in self._tables:
            table.close()
            self._archive.write(table.path, table.name)
        self._archive.close()

    def close(self) -> None:
        """Close all files."""
        for part in (*self._tables, self._archive):
            with suppress(OSError):
                part.close()


class Exports:
    """Several exports in one folder, which is created if it is missing; use it in a `with` block.

    The files appear under their names only if the block ends without an error. `formats` are any of
    `FORMATS`; "txt" writes beside each image. `stem` is the name of the zip, without ".zip". With
    `partial_apart`, files that lack results have names such as "captions.partial.csv" and replace
    no whole ones; whole files remove them.

    Raises:
        DiskError: the disk is full or does not take the files.
        ValueError: another format.
    """

    def __init__(
        self,
        folder: Path,
        items: Sequence[BatchInput],
        formats: Sequence[str],
        stem: str = "captions",
        *,
        partial_apart: bool = False,
    ) -> None:
        if unknown := set(formats) - set(FORMATS):
            raise ValueError(f"formats must be among {FORMATS} but got {sorted(unknown)}")
        self._folder = folder
        self._num_missing = len(items)
        self._partial_apart = partial_apart
        self._part = folder / ".seesay-part"
        with saving("a file of results"):
            shutil.rmtree(self._part, ignore_errors=True)  # of a run that was killed
            (self._part / "zip").mkdir(parents=True)
            self._parts: list[Table | ResultsZip] = [
                kind(self._part) for kind in TABLES if kind.format in formats
            ]
            if "zip" in formats:
                path = self._part / bounded_name(f"{stem}.zip", _ZIP_NAME_BYTES)
                self._parts.append(ResultsZip(path, self._part / "zip", items))
        self._texts = TextFiles(items) if "txt" in formats else None

    @property
    def is_partial(self) -> bool:
        """Return whether results of some inputs are missing."""
        return self._num_missing > 0

    @property
    def unwritten(self) -> Sequence[tuple[str, str]]:
        """(image, reason) of each caption file that could not be written beside its image."""
        return self._texts.unwritten if self._texts else ()

    def add(self, result: BatchResult) -> None:
        """Write one result to each export; raises `DiskError` if the disk does not take it."""
        self._num_missing -= 1
        with saving("a file of results"):
            for part in self._parts:
                part.add(result)
            if self._texts is not None:
                self._texts.add(result)

    def __enter__(self) -> "Exports":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Publish the files, or delete them; raises `DiskError` as `add` does."""
        try:
            if error is None:
                with saving("a file of results"):
                    self._publish()
        finally:
            for part in self._parts:
                with suppress(OSError):
                    part.close()
            shutil.rmtree(self._part, ignore_errors=True)

    def _publish(self) -> None:
        for part in self._parts:
            part.finish()
        for part in self._parts:
            whole = self._folder / part.path.name
            partial = whole.with_name(f"{whole.stem}.partial{whole.suffix}")
            if self._partial_apart and self.is_partial:
                part.path.replace(partial)
                continue
            part.path.replace(whole)
            if self._partial_apart:
                partial.unlink(missing_ok=True)


class DiskError(PipelineError):
    """Results cannot be written: the disk is full, or does not take them."""

    title = "Cannot save results"


def is_full(error: OSError) -> bool:
    """Return whether an error means that the disk is full."""
    return error.errno in _FULL


def disk_error(error: OSError, what: str) -> DiskError:
    """Return the error for a failed write of `what`."""
    if is_full(error):
        return DiskError(
            "The disk is full, so {what} could not be written. What was saved before is safe: "
            "free some space and start again, and only what is missing is done.",
            what=Message(what),
            title="Disk full",
        )
    return DiskError(
        "Could not write {what}: {reason}. Choose another folder, or make this one writable, and "
        "start again; what was saved before is safe.",
        what=Message(what),
        reason=error.strerror or Message("no reason given"),
    )


@contextmanager
def saving(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `DiskError` about `what`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error


def replace_text(path: Path, text: str) -> None:
    """Write a small file atomically: readers see the old text or the new one.

    Raises `OSError` if it cannot be written; the old file is unchanged.
    """
    # one for each process and thread: other runs may write into the same folder
    writer = f"{platform.node()[:60]}-{os.getpid()}-{threading.get_ident()}".replace("/", "_")
    part = path.with_name(f"{_PART_PREFIX}{writer}{_PART_SUFFIX}")
    try:
        part.write_bytes(text.encode("utf-8", "replace"))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def remove_stale_parts(folders: Iterable[Path]) -> None:
    """Delete the unfinished files in these folders whose process was killed."""
    oldest = time.time() - _PART_STALE_S
    for folder in folders:
        for part in folder.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}"):
            with suppress(OSError):  # another run deletes it too, or it cannot be deleted
                if _is_dead(part.name) or part.stat().st_mtime < oldest:
                    part.unlink()


def _is_dead(part: str) -> bool:
    """Return whether the process of a part ran on this machine and is known to have ended."""
    named = re.fullmatch(r"(.*)-(\d+)-\d+", part[len(_PART_PREFIX) : -len(_PART_SUFFIX)])
    here = platform.node()[:60].replace("/", "_")
    if named is None or named[1] != here or os.name == "nt":
        return False
    try:
        os.kill(int(named[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives and is another user's
        return False
    return False

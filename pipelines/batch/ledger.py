"""Ledger of results on disk, from which an interrupted run is continued.

A ledger is a file of JSON lines. A line with "values" gives the settings of a key; every other
line is one result::

    {"settings": "3f0c…", "values": {"model": "blip2-opt-2.7b", "prompt": "", …}}
    {"file": "a.jpg", "hash": "9b1c…", "settings": "3f0c…", "caption": "a dog", "error": ""}

A result belongs to a content (SHA-256 of the file's bytes) under settings, not to a name: a
renamed or repeated file is captioned once. Captions are final. Errors are only a record: such a
file is tried again, and a later caption supersedes the error.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from pipelines.batch.export import disk_error, saving
from pipelines.serving.locks import lock_file

#: Errors of damaged lines.
_DAMAGED = (ValueError, KeyError, TypeError, RecursionError)

#: Raised whenever the same settings give other captions than before.
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """All that a caption depends on besides the image.

    Attributes:
        revision: of the model's weights; empty for a bundled model.
        prompt: beginning of the caption, or a question.
        options: generation options by name, such as `max_new_tokens`.
        version: of the code that makes captions.
    """

    model: str
    revision: str = ""
    prompt: str = ""
    options: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    version: int = VERSION

    def values(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "options": dict(sorted(self.options.items()))}

    @property
    def key(self) -> str:
        """Key of the settings: sixteen hexadecimal digits."""
        return hashlib.sha256(_line(self.values())).hexdigest()[:16]


@dataclass(frozen=True)
class LedgerEntry:
    """One result in a ledger.

    Attributes:
        hash: SHA-256 of the file's bytes in hexadecimal digits, or "" if they could not be read.
        caption: the caption, or "".
        error: why there is no caption, or "".
        notes: on the caption; left out of the file if there are none.
    """

    file: str
    hash: str
    caption: str
    error: str
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        row = asdict(self)
        return row if self.notes else {name: row[name] for name in row if name != "notes"}


class Ledger:
    """The captions of one file under one set of settings; close it, or use it with `with`.

    The file is opened or created, with its folder. A torn last line is cut off; other damaged lines
    are left and ignored. `known` are results by content from elsewhere, which are in the file only
    once they are added; `other` are captions under other settings, with their contents.

    Raises:
        InputError: another run has this ledger open.
        DiskError: it cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        settings: CaptionSettings,
        known: Mapping[str, LedgerEntry] | None = None,
        other: Mapping[str, set[str]] | None = None,
    ) -> None:
        self.path = path
        self.settings = settings
        self._captions: dict[str, LedgerEntry] = {}
        self._known = known or {}
        self._failed: set[str] = set()
        self._other = dict(other or {})  # captions under other settings: contents
        self._key = settings.key
        self._announced = False
        with saving("the ledger"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(path.with_name(f".{path.name}.lock"))
        try:
            with saving("the ledger"):
                self._file = FileIO(path, "r+" if path.exists() else "x+")
                self._end = self._read()
                self._cut(self._end)
                _sync_folder(path.parent)
        except BaseException:
            self._lock.release()
            raise

    def __len__(self) -> int:
        return len(self._captions)

    def known(self) -> tuple[dict[str, LedgerEntry], dict[str, set[str]]]:
        """Return all captions by content, and those under other settings with their contents."""
        return {**self._known, **self._captions}, self._other

    def caption(self, content: str) -> str | None:
        """Return the caption of a content, given by its hash, or None."""
        entry = self._entry(content)
        return None if entry is None else entry.caption

    def notes(self, content: str) -> tuple[str, ...]:
        """Return the notes on the caption of a content."""
        entry = self._entry(content)
        return () if entry is None else entry.notes

    def _entry(self, content: str) -> LedgerEntry | None:
        return self._captions.get(content, self._known.get(content))

    def may_be_other(self, text: str) -> bool:
        """Return whether some content has the caption `text` under other settings."""
        return text in self._other

    def is_other(self, text: str, content: str) -> bool:
        """Return whether a content, by its hash, has the caption `text` under other settings."""
        return content in self._other.get(text, ())

    def add(self, entries: Iterable[LedgerEntry]) -> None:
        """Write results and wait until they are on the disk.

        Contents with a caption, and errors that are known already, are left out.

        Raises:
            DiskError: the disk is full or fails. The whole lines that still fitted are kept and
                count as written; no part of a line is left in the file.
        """
        new: list[LedgerEntry] = []
        captioned: set[str] = set()
        failed: set[str] = set()
        for entry in entries:
            content = _content(entry)
            done = content in self._captions or content in captioned
            if done or (entry.error and (content in self._failed or content in failed)):
                continue
            (failed if entry.error else captioned).add(content)
            new.append(entry)
        if not new:
            return
        lines = [_line({**entry.row(), "settings": self._key}) for entry in new]
        if not self._announced:
            lines.insert(0, _line({"settings": self._key, "values": self.settings.values()}))
        written, error = self._append(lines)
        if not self._announced and written:
            self._announced, written = True, written - 1
        for entry in new[:written]:
            self._note(entry)
        if error is not None:
            raise disk_error(error, "the ledger") from error

    def close(self) -> None:
        """Close the file and release its lock."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        """Write lines; return how many are on the disk, and the error of the others."""
        data = memoryview(b"".join(lines))
        done, failure = 0, None
        try:
            while done < len(data):  # a full disk takes a part first, then raises
                done += self._file.write(data[done:])
        except OSError as error:
            failure = error
        try:
            kept = bytes(data[:done]).rfind(b"\n") + 1
            self._cut(self._end + kept)
            os.fsync(self._file.fileno())
            self._end += kept
        except OSError as error:
            kept, failure = 0, failure or error
            with suppress(OSError):
                self._cut(self._end)
        return bytes(data[:kept]).count(b"\n"), failure

    def _cut(self, end: int) -> None:
        """Make the file end at byte `end`, and continue to write from there."""
        if self._file.seek(0, os.SEEK_END) != end:
            self._file.truncate(end)
        self._file.seek(end)

    def _read(self) -> int:
        """Read the file; return the end of the last whole line."""
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                self._take(line)
        return end

    def _take(self, line: bytes) -> None:
        with suppress(*_DAMAGED):
            entry = _entry(line, self._key)
            if entry == "values":
                self._announced = True
            elif entry is not None:
                self._note(entry)
            elif (other := _entry(line)) and isinstance(other, LedgerEntry) and not other.error:
                self._other.setdefault(other.caption.strip(), set()).add(other.hash)

    def _note(self, entry: LedgerEntry) -> None:
        if entry.error:
            self._failed.add(_content(entry))
        else:
            self._captions[entry.hash] = entry


def read_captions(path: Path, settings: CaptionSettings) -> dict[str, LedgerEntry]:
    """Return the captions, by content, of a ledger that another run may be writing."""
    captions: dict[str, LedgerEntry] = {}
    key = settings.key
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            try:
                entry = _entry(line, key)
            except _DAMAGED:  # also a last line that is being written
                continue
            if isinstance(entry, LedgerEntry) and not entry.error:
                captions[entry.hash] = entry
    return captions


def _entry(line: bytes, key: str = "") -> LedgerEntry | Literal["values"] | None:
    """Return the result in a line, "values" for that of the settings, None for other settings.

    Without a key, results of any settings are returned.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: the line is damaged.
    """
    row = json.loads(line)
    if key and row["settings"] != key:
        return None
    if "values" in row:
        return "values"
    notes = tuple(row.get("notes", ()))
    entry = LedgerEntry(row["file"], row["hash"], row["caption"], row["error"], notes)
    texts = (entry.file, entry.hash, entry.caption, entry.error, *notes)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a result holds texts")
    return entry


def _content(entry: LedgerEntry) -> str:
    """Return the key of a file's content: its hash, or its name if it has none."""
    return entry.hash or f"file:{entry.file}"


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _sync_folder(folder: Path) -> None:
    """Make sure that a new file's name survives a loss of power, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class LedgerFolder:
    """The ledgers of one owner in the folder of all owners, found by settings and content.

    An interrupted run is continued by its owner's next one with the same files and settings, and
    concurrent runs never wait for each other's ledger. Captions of other owners are not used: the
    speed of a caption would reveal that another owner had captioned the same image. Old ledgers are
    deleted by the sweep of the folder, so used entries are written again. `owner` is a secret; ""
    finds no earlier ledger.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:32]
        self._finds = bool(owner)

    def open(self, settings: CaptionSettings) -> Ledger:
        """Return a new ledger that knows the owner's captions with the same settings.

        Raises `DiskError` if it cannot be written.
        """
        known: dict[str, LedgerEntry] = {}
        stem = f"{settings.key}-{self._owner}"
        for path in sorted(self._folder.glob(f"{stem}-*.jsonl")) if self._finds else ():
            known.update(read_captions(path, settings))
        name = f"{stem}-{secrets.token_urlsafe(16)}.jsonl"
        return Ledger(self._folder / name, settings, known)

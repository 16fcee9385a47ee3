"""What was done, on disk, so that a run that ends in any way can be taken up again.

A ledger is a file of JSON lines. A line with "values" says which settings a key stands for; every
other line is one result::

    {"settings": "3f0c…", "values": {"model": "blip2-opt-2.7b", "prompt": "", …}}
    {"file": "a.jpg", "hash": "9b1c…", "settings": "3f0c…", "caption": "a dog", "error": ""}

A result belongs to a content (SHA-256 of the file's bytes) under settings, not to a name, so that
a file that was renamed or lies there twice is captioned once. Captions are final. Errors are only
a record: such a file is tried again, and a caption that comes later supersedes the error.
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
from types import TracebackType
from typing import Any, Literal

from pipelines.batch.disk import disk_error, saving
from pipelines.serving.locks import lock_file

#: What a damaged line raises when it is read.
_DAMAGED = (ValueError, KeyError, TypeError, RecursionError)

#: Raised whenever the same settings would give other captions than before.
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """All that a caption depends on besides the image.

    Attributes:
        model: the model's key.
        revision: of its weights; empty for a bundled model.
        prompt: what the caption continues or answers.
        options: generation options by name, such as `max_new_tokens`.
        version: of the code that makes captions.
    """

    model: str
    revision: str = ""
    prompt: str = ""
    options: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    version: int = VERSION

    def values(self) -> dict[str, Any]:
        """Return the settings as JSON takes them."""
        return {
            "model": self.model,
            "revision": self.revision,
            "prompt": self.prompt,
            "options": dict(sorted(self.options.items())),
            "version": self.version,
        }

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stand for the settings."""
        return hashlib.sha256(_line(self.values())).hexdigest()[:16]


@dataclass(frozen=True)
class LedgerEntry:
    """One result as it goes into a ledger.

    Attributes:
        file: the input's name.
        hash: SHA-256 of its bytes in hexadecimal digits, or "" where they could not be read.
        caption: what the model said, or "".
        error: why there is no caption, or "".
        notes: what a person should know about the caption; left out of the file where there are
            none.
    """

    file: str
    hash: str
    caption: str
    error: str
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        row = asdict(self)
        return row if self.notes else {name: row[name] for name in row if name != "notes"}


class Ledger:
    """The captions of one file under one set of settings; close it, or use it with `with`."""

    def __init__(
        self,
        path: Path,
        settings: CaptionSettings,
        known: Mapping[str, LedgerEntry] | None = None,
        other: Mapping[str, set[str]] | None = None,
    ) -> None:
        """Open or make the ledger at `path`; its folder is made where it is missing.

        A last line that was torn is cut off; other lines that are damaged are left and ignored.

        Args:
            path: the file.
            settings: what the captions depend on.
            known: results by content that were found elsewhere; they are not in the file unless
                they are added.
            other: captions under other settings that were found elsewhere, with their contents.

        Raises:
            InputError: another run has this ledger open.
            DiskError: it cannot be read or written.
        """
        self.path = path
        self.settings = settings
        self.num_damaged = 0
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
        """Return what is noted on the caption of a content; nothing where it has none."""
        entry = self._entry(content)
        return () if entry is None else entry.notes

    def _entry(self, content: str) -> LedgerEntry | None:
        return self._captions.get(content, self._known.get(content))

    def may_be_other(self, text: str) -> bool:
        """Return whether some content has `text` for a caption under other settings."""
        return text in self._other

    def is_other(self, text: str, content: str) -> bool:
        """Return whether that content, given by its hash, has `text` under other settings."""
        return content in self._other.get(text, ())

    def add(self, entries: Iterable[LedgerEntry]) -> None:
        """Write results and wait until they are on the disk.

        A content that has a caption already, or an error that is known already, is left out.

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
        """Close the file and let others have it."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        """Write lines; return how many are on the disk, and what kept the others from it."""
        data = memoryview(b"".join(lines))
        done, failure = 0, None
        try:
            while done < len(data):  # a disk that fills up takes a part first, then raises
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
        """Make the file end at byte `end`, and write on from there."""
        if self._file.seek(0, os.SEEK_END) != end:
            self._file.truncate(end)
        self._file.seek(end)

    def _read(self) -> int:
        """Take in what is there; return where the last whole line ends."""
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                self._take(line)
        return end

    def _take(self, line: bytes) -> None:
        try:
            entry = _entry(line, self._key)
        except _DAMAGED:
            self.num_damaged += 1
            return
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
    """Return the captions, by content, of a ledger that another run may be writing just now."""
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

    Without a key it takes those of any settings.

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
    """Return what stands for a file's content: its hash, or its name where it has none."""
    return entry.hash or f"file:{entry.file}"


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _sync_folder(folder: Path) -> None:
    """Make sure that a new file's name survives a loss of power, where a system can do that."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class LedgerFolder:
    """The ledgers of one owner, found again by settings and content.

    A run that ended in any way is taken up by its owner's next one with the same files and
    settings, and two at the same time never wait for each other's ledger. Nothing is taken from
    other owners: how fast a caption comes, and that it counts as known, would tell that somebody
    else had captioned the same picture. Old ledgers are deleted by whoever sweeps the folder, so
    what is used of them is written anew.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        """Keep ledgers in `folder`, which is made where it is missing.

        Args:
            folder: of all owners' ledgers.
            owner: a secret that only the owner has; without one, nothing is found again.
        """
        self._folder = folder
        self._owner = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:32]
        self._finds = bool(owner)

    def open(self, settings: CaptionSettings) -> Ledger:
        """Return a new ledger that knows the owner's captions with the same settings.

        Raises:
            DiskError: it cannot be written.
        """
        known: dict[str, LedgerEntry] = {}
        stem = f"{settings.key}-{self._owner}"
        for path in sorted(self._folder.glob(f"{stem}-*.jsonl")) if self._finds else ():
            known.update(read_captions(path, settings))
        name = f"{stem}-{secrets.token_urlsafe(16)}.jsonl"
        return Ledger(self._folder / name, settings, known)

"""Images in a zip archive, read without unpacking it to disk."""

import re
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipelines.core.errors import InputError, MediaError
from pipelines.core.messages import Message
from pipelines.core.text import bounded_name
from pipelines.media.inputs import (
    MAX_CAPTION_BYTES,
    MAX_FILE_BYTES,
    Inputs,
    Skipped,
    Source,
    UnreadableSource,
    caption_names,
    from_files,
    from_folder,
    is_image_name,
    make_inputs,
    printable,
)
from pipelines.media.zip_names import member_names

_CHUNK_BYTES = 1 << 20

#: Maximum number of characters of a member's name with its folders.
_MAX_NAME = 1000
_ENCRYPTED_FLAG = 0x1
_DRIVE = re.compile(r"^[A-Za-z]:")

#: Methods whose output size can be checked while reading.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_NOT_ALONE = (
    "It is a zip, which is opened only where it comes alone. Send it alone, or the images in it."
)

#: Errors of `zipfile` on damaged or malicious archives.
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError)


@dataclass(frozen=True, kw_only=True)
class ZipLimits:
    """Limits of an archive: members, unpacked bytes, compression ratio of it and of a member.

    Up to `free_bytes` unpacked, any ratio is allowed.
    """

    num_members: int = 100_000
    total_bytes: int = 100_000_000_000
    ratio: float = 200.0
    free_bytes: int = 20_000_000


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip by its suffix (not an office document) or, without, bytes."""
    if not path.is_file():
        return False
    if path.suffix:
        return path.suffix.lower() == ".zip"
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def open_inputs(
    paths: Sequence[Path], names: Sequence[str] | None = None, *, recursive: bool = True
) -> Inputs:
    """Return the inputs of one folder, one zip, or any number of files.

    A zip among other files is unreadable. `names` are display names of files, None for the file
    names; `recursive` is for folders in the folder.

    Raises:
        InputError: there is no image, or the zip is invalid.
        ValueError: the numbers of names and paths differ.
    """
    if len(paths) == 1 and paths[0].is_dir():
        return from_folder(paths[0], recursive=recursive)
    if len(paths) == 1 and is_zip(paths[0]):
        return from_zip(paths[0])
    given = from_files(paths, names)
    items = [
        replace(item, source=UnreadableSource(_NOT_ALONE)) if is_zip(path) else item
        for path, item in zip(paths, given.items, strict=True)
    ]
    return replace(given, items=tuple(items))


def from_zip(path: Path, limits: ZipLimits | None = None) -> Inputs:
    """Return the images of a zip in the order of the archive.

    An unsafe member with an image suffix (path outside of the archive, link, password, zip bomb)
    is unreadable with the reason; members without an image suffix are in `skipped`. Raises
    `InputError` for no zip, a damaged one, one beyond `limits`, and one without images.
    """
    limits = limits or ZipLimits()
    try:
        _check_count(path, limits)
        archive = zipfile.ZipFile(path)
    except (*_BAD_ZIP, struct.error) as error:
        raise InputError(
            "The archive is not a zip, or is damaged or cut off. Pack the images again as .zip."
        ) from error
    try:
        _check_whole(archive.infolist(), path.stat().st_size, limits)
        return _members(archive, limits)
    except BaseException:
        archive.close()
        raise


@dataclass(frozen=True)
class _MemberSource:
    """A member of an open archive, and its caption file in the archive."""

    archive: zipfile.ZipFile
    lock: threading.Lock
    member: zipfile.ZipInfo
    caption: zipfile.ZipInfo | None
    caption_path: None = None

    def read(self) -> bytes:
        return self._read(self.member, MAX_FILE_BYTES, "It")

    def read_caption(self) -> bytes:
        if self.caption is None:
            return b""
        return self._read(self.caption, MAX_CAPTION_BYTES, "Its caption file")

    def _read(self, member: zipfile.ZipInfo, max_bytes: int, what: str) -> bytes:
        data = bytearray()
        try:  # `zipfile` counts its open members without a lock
            with self.lock, self.archive.open(member) as file:
                while len(data) <= max_bytes and (chunk := file.read(_CHUNK_BYTES)):
                    data += chunk
        except (*_BAD_ZIP, RuntimeError) as error:
            raise MediaError(
                "{name} is damaged in the archive. Pack it again.", name=Message(what)
            ) from error
        if len(data) > max_bytes:
            raise MediaError(
                "{name} is larger than the limit of {limit:.0f} MB.",
                name=Message(what),
                limit=max_bytes / 1e6,
            )
        return bytes(data)


def _members(archive: zipfile.ZipFile, limits: ZipLimits) -> Inputs:
    lock = threading.Lock()
    images: list[tuple[str, zipfile.ZipInfo]] = []
    texts: dict[str, zipfile.ZipInfo] = {}
    skipped: list[Skipped] = []
    members = archive.infolist()
    for name, member in zip(member_names(members), members, strict=True):
        if name.endswith("/") or member.is_dir() or _is_clutter(name):
            continue
        if is_image_name(name):
            images.append((name, member))
            continue
        if name.lower().endswith(".txt") and not _refusal(name, member, limits):
            texts[name] = member
        skipped.append(Skipped(printable(name), _why_no_image(name)))
    if not images:
        raise InputError(
            "There is no image in the archive. Expected files such as .jpg, .png or .webp in it."
        )
    sources: list[Source] = []
    captions = caption_names([name for name, _ in images])
    for (name, member), caption in zip(images, captions, strict=True):
        refusal = _refusal(name, member, limits)
        source = _MemberSource(archive, lock, member, texts.get(caption))
        sources.append(UnreadableSource(refusal) if refusal else source)
    names = [_harmless(name) for name, _ in images]
    return Inputs(make_inputs(names, sources), tuple(skipped), archive.close)


def _harmless(name: str) -> str:
    parts = [part for part in printable(_DRIVE.sub("", name)).split("/") if part not in ("", ".")]
    name = "/".join("_" if part == ".." else part for part in parts) or "image"
    return name if len(name) <= _MAX_NAME else bounded_name(name.replace("/", "_"), 200)


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and (parts[0] == "__MACOSX" or parts[-1].startswith("."))


def _why_no_image(name: str) -> str:
    if name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")):
        return "an archive within the archive is not opened"
    return "not an image by its name"


def _refusal(name: str, member: zipfile.ZipInfo, limits: ZipLimits) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or _DRIVE.match(name) or ".." in name.split("/"):
        return "Its name leads out of the archive, so it is not read. Pack it under a plain name."
    if len(name) > _MAX_NAME:
        return Message(
            "Its name is longer than {limit:,} letters. Pack it under a shorter one.",
            limit=_MAX_NAME,
        )
    if kind not in (0, stat.S_IFREG):
        return "It is a link, not a file, so it is not followed. Pack the file itself."
    if member.flag_bits & _ENCRYPTED_FLAG:
        return "It is locked with a password. Pack it without one."
    if member.compress_type not in _METHODS:
        return "It is packed in a way that is not read. Pack it as a common zip (deflate)."
    if member.file_size > MAX_FILE_BYTES:
        return Message(
            "It unpacks to {size:,.0f} MB; the limit is {limit:.0f} MB.",
            size=member.file_size / 1e6,
            limit=MAX_FILE_BYTES / 1e6,
        )
    if _swells(member.file_size, member.compress_size, limits):
        return Message(
            "It unpacks to more than {ratio:.0f} times its size, as no image does. Save "
            "it as PNG or JPEG and pack it again.",
            ratio=limits.ratio,
        )
    return ""


def _swells(unpacked: int, packed: int, limits: ZipLimits) -> bool:
    return unpacked > limits.free_bytes and unpacked > limits.ratio * packed


def _check_whole(members: list[zipfile.ZipInfo], archive_bytes: int, limits: ZipLimits) -> None:
    total = sum(member.file_size for member in members)
    if total > limits.total_bytes:
        raise InputError(
            "The archive unpacks to {size:,.1f} GB; the limit is {limit:,.1f} GB. Split it.",
            size=total / 1e9,
            limit=limits.total_bytes / 1e9,
        )
    if _swells(total, archive_bytes, limits):
        raise InputError(
            "The archive unpacks to {ratio:,.0f} times its size; the limit is {limit:.0f} "
            "times, which no archive of images reaches. Pack PNG or JPEG files.",
            ratio=total / archive_bytes,
            limit=limits.ratio,
        )
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise InputError(
                "Files in the archive overlap, as in one made to harm. Pack the images again."
            )
        end = member.header_offset + 30 + member.compress_size


def _check_count(path: Path, limits: ZipLimits) -> None:
    """Check the number of members before `zipfile` creates an object for each."""
    with path.open("rb") as file:
        size, end = _directory(file)
        if size > 200 * limits.num_members:
            count = limits.num_members + 1
        else:
            file.seek(max(0, end - size))
            count = file.read(size).count(b"PK\x01\x02")
    if count > limits.num_members:
        raise InputError(
            "The archive holds more than {limit:,} files, the limit. Split it.",
            limit=limits.num_members,
        )


def _directory(file: BinaryIO) -> tuple[int, int]:
    length = file.seek(0, 2)
    start = max(0, length - 65557)  # the last record with the longest comment
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile("no table of contents")
    (size,) = struct.unpack_from("<I", tail, at + 12)
    end = start + at
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # zip64 record
        (size,) = struct.unpack_from("<Q", tail, at - 76 + 40)
        end -= 76
    return size, end

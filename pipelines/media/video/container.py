"""Open a video file with PyAV, only as a local file of a known kind, and say what is wrong."""

from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipelines.core.errors import MediaError

#: What is opened. Playlists (hls, dash, concat) are not: they name other files and hosts, and
#: would be followed. Sound formats are, so that the message can say that there is no picture.
FORMATS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "asf",
    "ogg", "gif", "apng", "h264", "hevc", "m4v", "h263", "ivf", "obu", "av1", "mxf", "rm", "dv",
    "nut", "wtv", "gxf", "amv", "vc1", "mjpeg", "mp3", "wav", "flac", "aac", "aiff", "amr", "ac3",
)  # fmt: skip

#: Most pixels of one frame: 8192 x 8192.
MAX_FRAME_PIXELS = 8192 * 8192

#: Most characters of a file's name that a message repeats.
_MAX_NAME = 60

_EXPECTED = "Expected a video such as an MP4, WebM, MOV, MKV or AVI file"

#: What people take for a video, or hope is one: (offset, bytes there, what to call it).
_KNOWN = (
    (0, b"\x89PNG", "an image"),
    (0, b"\xff\xd8\xff", "an image"),
    (0, b"BM", "an image"),
    (0, b"II*\0", "an image"),
    (0, b"MM\0*", "an image"),
    (8, b"WEBP", "an image"),
    (4, b"ftypavif", "an image"),
    (4, b"ftyphei", "an image"),
    (4, b"ftypmif1", "an image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive or an office document"),
    (0, b"#EXTM3U", "a playlist"),
)

#: How files begin that were videos once, whatever came after.
_SIGNATURES = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"free"), (4, b"wide"), (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "), (0, b"FLV"), (0, b"OggS"), (0, b"\x30\x26\xb2\x75"), (0, b"\0\0\x01\xba"),
    (0, b"GIF8"),
)  # fmt: skip


def shown(path: Path) -> str:
    """Return a file's name as messages repeat it: quoted, printable, not too long."""
    name = path.name
    return repr(name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…")


def check_file(path: Path) -> None:
    """Refuse what is no video by its first bytes.

    Raises:
        MediaError: the file is missing, empty or of another kind.
    """
    try:
        with path.open("rb") as file:
            start = file.read(300)
    except OSError as error:
        raise MediaError(f"The file {shown(path)} could not be read. Upload it again.") from error
    if not start:
        raise MediaError(f"{shown(path)} is empty (0 bytes). Choose a video such as an MP4 file.")
    for offset, magic, kind in _KNOWN:
        if start.startswith(magic, offset):
            raise MediaError(f"{shown(path)} is {kind}, not a video. {_EXPECTED}; choose one.")


def looks_like_video(path: Path) -> bool:
    """Whether a file begins as a video does, whatever comes after."""
    with path.open("rb") as file:
        start = file.read(16)
    return any(start.startswith(magic, offset) for offset, magic in _SIGNATURES)


def unreadable(path: Path) -> MediaError:
    """Return the error for a file that no decoder opens, by what its first bytes look like."""
    with path.open("rb") as file:
        start = file.read(300)
    if looks_like_video(path):
        return MediaError(
            f"{shown(path)} is damaged or cut off: it starts like a video but cannot be opened. "
            "Save or upload it again."
        )
    text = start.decode("utf-8", "replace").rstrip("\ufffd")
    readable = "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text)
    looks = ": it looks like a text" if text and readable else ""
    return MediaError(
        f"{shown(path)} is not a video that can be read{looks}. {_EXPECTED}; "
        "convert it and try again."
    )


def open_container(path: Path) -> InputContainer:
    """Open a local file; nothing that it refers to is opened with it.

    Raises:
        av.FFmpegError: no format of `FORMATS` fits.
    """
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    return av.open(str(path.absolute()), options=options)


def announced_s(container: InputContainer) -> float:
    """Return how long a file says that it is, in seconds, 0.0 where it does not.

    Matroska tells when it ends, which may be long after a late start.
    """
    late = (container.start_time or 0) if "matroska" in container.format.name else 0
    return max(0, (container.duration or 0) - late) / 1e6


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the first stream of moving pictures, the others set aside.

    Raises:
        MediaError: there is none (sound alone, perhaps with a cover picture), its codec is
            unknown, or its pictures are absurdly large.
    """
    covers = Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & covers]
    if not streams:
        what = "only sound" if container.streams.audio else "no moving picture"
        raise MediaError(f"{shown(path)} holds {what}, no video. {_EXPECTED}; choose another.")
    stream = streams[0]
    codec: Any = getattr(stream, "codec_context", None)
    if codec is None:
        raise MediaError(
            f"{shown(path)} uses a video codec that is not known here. "
            "Convert it to an MP4 file with H.264 video and try again."
        )
    width, height = codec.width, codec.height
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{shown(path)} has frames of {width} x {height} pixels; the limit is "
            f"{MAX_FRAME_PIXELS / 1e6:.0f} megapixels a frame. Shrink it and try again."
        )
    codec.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # sizes may change on the way
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream

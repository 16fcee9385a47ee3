"""Open a video file with PyAV, only as a local file of a known kind, and say what is wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MediaError, MemoryLimitError
from pipelines.core.messages import Message
from pipelines.media.video.frames import Numbers

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

_EXPECTED = Message("Expected a video such as an MP4, WebM, MOV, MKV or AVI file")

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
        raise MediaError(
            "The file {name} could not be read. Upload it again.", name=shown(path)
        ) from error
    if not start:
        raise MediaError(
            "{name} is empty (0 bytes). Choose a video such as an MP4 file.", name=shown(path)
        )
    for offset, magic, kind in _KNOWN:
        if start.startswith(magic, offset):
            raise MediaError(
                "{name} is {kind}, not a video. {expected}; choose one.",
                name=shown(path),
                kind=Message(kind),
                expected=_EXPECTED,
            )


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
            "{name} is damaged or cut off: it starts like a video but cannot be opened. Save "
            "or upload it again.",
            name=shown(path),
        )
    text = start.decode("utf-8", "replace").rstrip("\ufffd")
    readable = "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text)
    looks = ": it looks like a text" if text and readable else ""
    return MediaError(
        "{name} is not a video that can be read{looks}. {expected}; convert it and try again.",
        name=shown(path),
        looks=Message(looks),
        expected=_EXPECTED,
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
        raise MediaError(
            "{name} holds {what}, no video. {expected}; choose another.",
            name=shown(path),
            what=Message(what),
            expected=_EXPECTED,
        )
    stream = streams[0]
    codec: Any = getattr(stream, "codec_context", None)
    if codec is None:
        raise MediaError(
            "{name} uses a video codec that is not known here. Convert it to an MP4 file with "
            "H.264 video and try again.",
            name=shown(path),
        )
    width, height = codec.width, codec.height
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            "{name} has frames of {width} x {height} pixels; the limit is {limit:.0f} "
            "megapixels a frame. Shrink it and try again.",
            name=shown(path),
            width=width,
            height=height,
            limit=MAX_FRAME_PIXELS / 1e6,
        )
    codec.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # sizes may change on the way
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


#: Most memory that the frames of one call may take; 1 GB = 1e9 bytes.
MAX_FRAMES_GB = 4.0


def check_length(path: Path, seconds: float, limit: float) -> None:
    """Check that a video is not longer than a limit; a limit of 0.0 is none.

    Raises:
        MediaError: it is.
    """
    if limit and seconds > limit:
        raise MediaError(
            "{name} is {seconds:.0f} s long; the limit is {limit:.0f} s. Trim it and try again.",
            name=shown(path),
            seconds=seconds,
            limit=limit,
        )


def checked_numbers(indices: Sequence[int] | Numbers, num_frames: int) -> Numbers:
    """Return frame numbers as an array (N,).

    Raises:
        InputError: there is none, or one that the video does not have.
    """
    asked = np.asarray(indices, np.int64)
    if asked.ndim != 1 or not len(asked):
        raise InputError("No frames were asked for. Ask for at least one.")
    if asked.min() < 0 or asked.max() >= num_frames:
        raise InputError(
            "Frame numbers must be within 0..{last} but got {low}..{high}. Choose others.",
            last=num_frames - 1,
            low=asked.min(),
            high=asked.max(),
        )
    return asked


def checked_order(asked: Numbers, at_once: int) -> Numbers:
    """Return frame numbers that are to be read one after the other.

    Raises:
        InputError: one does not come after the one before it, or none is to be held at once.
    """
    if at_once < 1:
        raise InputError(
            "The frames held at once must be 1 or more but got {given}.", given=at_once
        )
    late = np.flatnonzero(np.diff(asked) <= 0)
    if len(late):
        before, after = asked[late[0] : late[0] + 2]
        raise InputError(
            "Frame numbers must ascend but got {after} after {before}. Sort them, each once.",
            after=after,
            before=before,
        )
    return asked


def checked_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the (height, width) that frames are to have.

    Raises:
        InputError: a side is too short or too long.
    """
    if size is not None and not all(1 <= each <= 8192 for each in size):
        raise InputError(
            "A frame's height and width must be within 1..8192 but got {height} x {width}.",
            height=size[0],
            width=size[1],
        )
    return size


def check_memory(num_frames: int, size: tuple[int, int]) -> None:
    """Check that frames of a (height, width) fit into memory.

    Raises:
        MemoryLimitError: they would take more than `MAX_FRAMES_GB`.
    """
    needed = num_frames * size[0] * size[1] * 3 / 1e9
    if needed > MAX_FRAMES_GB:
        raise MemoryLimitError(
            "{count} frames of {width} x {height} need {size:.1f} GB; the limit is "
            "{limit:.0f} GB. Ask for fewer frames or a smaller size.",
            count=num_frames,
            width=size[1],
            height=size[0],
            size=needed,
            limit=MAX_FRAMES_GB,
        )


def nothing_left(path: Path, num_frames: int) -> MediaError:
    """Return the error for a video of which not one of so many frames can be read."""
    what = (
        Message("none of its {count} frames", count=num_frames)
        if num_frames != 1
        else "not even its only frame"
    )
    if not num_frames:
        what = "not one frame"
    return MediaError(
        "{name} is damaged: {what} could be read. Save or upload it again, or choose another "
        "video.",
        name=shown(path),
        what=Message(what),
    )


def packets_of(container: InputContainer, stream: VideoStream | None) -> Iterator[Any]:
    """Yield packets with data up to the end, or to where a file that is cut off ends."""
    while True:
        try:
            for packet in container.demux(stream) if stream is not None else container.demux():
                if packet.size:
                    yield packet
        except IndexError:  # a packet of a stream that was not there before
            continue
        except av.FFmpegError:
            return
        return


def decoded(
    container: InputContainer,
    stream: VideoStream,
    cancel: CancelToken,
    num_packets: int = -1,
) -> Iterator[tuple[int, Any]]:
    """Yield (number of its packet, frame) in the decoder's own order, from the file's start.

    Packets that cannot be decoded are passed over one by one.

    Raises:
        Cancelled: `cancel`, checked at every packet, is cancelled.
    """
    codec = stream.codec_context
    codec.copy_opaque = True
    for number, packet in enumerate(packets_of(container, stream)):
        if number == num_packets:
            break
        cancel.check()
        mark(packet, number)
        for frame in given_frames(codec, packet):
            yield marked(frame), frame
    for frame in given_frames(codec, None):
        yield marked(frame), frame


def mark(packet: Any, number: int) -> None:
    """Let the frame of this packet carry the packet's number.

    PyAV finds the value again by its address, so two packets in flight must not carry the same
    object, as small numbers are: the first one freed would take the other's away.
    """
    packet.opaque = (number,)


def marked(frame: Any) -> int:
    """Return the number of a frame's packet, -1 where the decoder did not keep it."""
    return frame.opaque[0] if frame.opaque else -1


def given_frames(codec: Any, packet: Any) -> list[Any]:
    """Return what a decoder gives for a packet, or has left for None; nothing if that fails."""
    try:
        frames: list[Any] = codec.decode(packet)
    except av.FFmpegError:
        return []
    return frames

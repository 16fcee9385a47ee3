"""Opening of local video files with PyAV, and checks of files, frame numbers and sizes."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError, MediaError, MemoryLimitError, shown_name
from pipelines.core.messages import Message
from pipelines.media.images import looks_like_text
from pipelines.media.video.frames import Numbers

#: Allowed formats. Playlists (hls, dash, concat) are excluded, since they refer to other files and
#: hosts. Audio formats are included for a precise error message.
FORMATS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "asf",
    "ogg", "gif", "apng", "h264", "hevc", "m4v", "h263", "ivf", "obu", "av1", "mxf", "rm", "dv",
    "nut", "wtv", "gxf", "amv", "vc1", "mjpeg", "mp3", "wav", "flac", "aac", "aiff", "amr", "ac3",
)  # fmt: skip

#: Maximum number of pixels of a frame.
MAX_FRAME_PIXELS = 8192 * 8192

_EXPECTED = Message("Expected a video such as an MP4, WebM, MOV, MKV or AVI file")

#: Codecs of covers, and the number of packets in which a video in such a codec has two pictures.
_IMAGE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp"})
_NUM_PROBED = 400

#: Signatures of other kinds of files: (offset, bytes, name).
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

#: Signatures of video files, also of damaged ones: (offset, bytes).
_SIGNATURES = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"free"), (4, b"wide"), (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "), (0, b"FLV"), (0, b"OggS"), (0, b"\x30\x26\xb2\x75"), (0, b"\0\0\x01\xba"),
    (0, b"GIF8"),
)  # fmt: skip


def check_file(path: Path) -> None:
    """Raise `MediaError` if a file is missing, empty or, by its first bytes, of another kind."""
    try:
        with path.open("rb") as file:
            start = file.read(300)
    except OSError as error:
        raise MediaError(
            "The file {name} could not be read. Upload it again.", name=shown_name(path.name)
        ) from error
    if not start:
        raise MediaError(
            "{name} is empty (0 bytes). Choose a video such as an MP4 file.",
            name=shown_name(path.name),
        )
    for offset, magic, kind in _KNOWN:
        if start.startswith(magic, offset):
            raise MediaError(
                "{name} is {kind}, not a video. {expected}; choose one.",
                name=shown_name(path.name),
                kind=Message(kind),
                expected=_EXPECTED,
            )


def looks_like_video(path: Path) -> bool:
    """Return whether a file has the signature of a video."""
    with path.open("rb") as file:
        start = file.read(16)
    return any(start.startswith(magic, offset) for offset, magic in _SIGNATURES)


def unreadable(path: Path) -> MediaError:
    """Return the error for a file that cannot be opened, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(300)
    if looks_like_video(path):
        return MediaError(
            "{name} is damaged or cut off: it starts like a video but cannot be opened. Save "
            "or upload it again.",
            name=shown_name(path.name),
        )
    looks = ": it looks like a text" if looks_like_text(start) else ""
    return MediaError(
        "{name} is not a video that can be read{looks}. {expected}; convert it and try again.",
        name=shown_name(path.name),
        looks=Message(looks),
        expected=_EXPECTED,
    )


def open_container(path: Path) -> InputContainer:
    """Open a local file, without other files that it refers to.

    Raises `av.FFmpegError` if the file has no format of `FORMATS`.
    """
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    return av.open(str(path.absolute()), options=options)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the video stream that players show and discard the others.

    It is the first enabled one, else the first. A cover is shown only if it is all there is.

    Raises:
        MediaError: there is none beside cover images, its codec is unknown, or its frames exceed
            `MAX_FRAME_PIXELS`.
    """
    covers = Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & covers]
    if not streams:
        what = "only sound" if container.streams.audio else "no moving picture"
        raise MediaError(
            "{name} holds {what}, no video. {expected}; choose another.",
            name=shown_name(path.name),
            what=Message(what),
            expected=_EXPECTED,
        )
    stream = min(streams, key=lambda each: _rank(each, path)) if len(streams) > 1 else streams[0]
    codec: Any = getattr(stream, "codec_context", None)
    if codec is None:
        raise MediaError(
            "{name} uses a video codec that is not known here. Convert it to an MP4 file with "
            "H.264 video and try again.",
            name=shown_name(path.name),
        )
    width, height = codec.width, codec.height
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            "{name} has frames of {width} x {height} pixels; the limit is {limit:.0f} "
            "megapixels a frame. Shrink it and try again.",
            name=shown_name(path.name),
            width=width,
            height=height,
            limit=MAX_FRAME_PIXELS / 1e6,
        )
    codec.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # the size may change within a video
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _rank(stream: VideoStream, path: Path) -> tuple[bool, bool, bool]:
    """Return a value that is least for the stream that players show."""
    is_known = getattr(stream, "codec_context", None) is not None
    is_enabled = bool(stream.disposition & Disposition.default)
    return not is_known, is_known and _is_still(stream, path), not is_enabled


def _is_still(stream: VideoStream, path: Path) -> bool:
    """Return whether a stream of a codec of images has one picture, as a cover does."""
    if stream.codec_context.name not in _IMAGE_CODECS:
        return False
    if stream.frames:
        return bool(stream.frames == 1)
    with open_container(path) as container:  # the position of the open file stays
        first = islice(packets_of(container, None), _NUM_PROBED)
        return sum(packet.stream_index == stream.index for packet in first) < 2


#: Maximum memory of the frames of one call; 1 GB = 1e9 bytes.
MAX_FRAMES_GB = 4.0


def check_length(path: Path, seconds: float, limit: float) -> None:
    """Raise `MediaError` if a video is longer than a limit in seconds; 0.0 is no limit."""
    if limit and seconds > limit:
        raise MediaError(
            "{name} is {seconds:.0f} s long; the limit is {limit:.0f} s. Trim it and try again.",
            name=shown_name(path.name),
            seconds=seconds,
            limit=limit,
        )


def checked_numbers(indices: Sequence[int] | Numbers, num_frames: int) -> Numbers:
    """Return frame numbers (N,); raise `InputError` if there is none, or one is out of range."""
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
    """Return frame numbers; raise `InputError` if they do not ascend, or if `at_once` < 1."""
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
    """Return a requested (height, width); raise `InputError` if a side is not within 1..8192."""
    if size is not None and not all(1 <= each <= 8192 for each in size):
        raise InputError(
            "A frame's height and width must be within 1..8192 but got {height} x {width}.",
            height=size[0],
            width=size[1],
        )
    return size


def check_memory(num_frames: int, size: tuple[int, int]) -> None:
    """Raise `MemoryLimitError` if frames of a (height, width) exceed `MAX_FRAMES_GB`."""
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


def no_frames_error(path: Path, num_frames: int) -> MediaError:
    """Return the error for a video of which none of `num_frames` frames can be read."""
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
        name=shown_name(path.name),
        what=Message(what),
    )


def packets_of(container: InputContainer, stream: VideoStream | None) -> Iterator[Any]:
    """Yield the packets with data, up to the end or to a truncation of the file."""
    while True:
        try:
            for packet in container.demux(stream) if stream is not None else container.demux():
                if packet.size:
                    yield packet
        except IndexError:  # a packet of a new stream
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
    """Yield (packet number, frame) in the order of the decoder; skip undecodable packets.

    `cancel` is checked at every packet.
    """
    codec = stream.codec_context
    codec.copy_opaque = True
    for number, packet in enumerate(packets_of(container, stream)):
        if number == num_packets:
            break
        cancel.check()
        tag(packet, number)
        for frame in decode_packet(codec, packet):
            yield tag_of(frame), frame
    for frame in decode_packet(codec, None):
        yield tag_of(frame), frame


def tag(packet: Any, number: int) -> None:
    """Attach a packet's number to its frame.

    PyAV finds the value by its address: packets in flight need distinct objects, which small
    integers are not.
    """
    packet.opaque = (number,)


def tag_of(frame: Any) -> int:
    """Return the packet number of a frame, -1 if the decoder lost it."""
    return frame.opaque[0] if frame.opaque else -1


def decode_packet(codec: Any, packet: Any) -> list[Any]:
    """Return the frames that a decoder outputs for a packet, or at the end for None."""
    try:
        frames: list[Any] = codec.decode(packet)
    except av.FFmpegError:
        return []
    return frames

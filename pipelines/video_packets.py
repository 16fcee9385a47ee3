"""Packets of an open file and the frames that they give, each known by its packet's number."""

from collections.abc import Callable, Iterator
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipelines.core.errors import ReadingStopped


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
    should_stop: Callable[[], bool],
    num_packets: int = -1,
) -> Iterator[tuple[int, Any]]:
    """Yield (number of its packet, frame) in the decoder's own order, from the file's start.

    Packets that cannot be decoded are passed over one by one.

    Raises:
        ReadingStopped: `should_stop()`, asked at every packet, was true.
    """
    codec = stream.codec_context
    codec.copy_opaque = True
    for number, packet in enumerate(packets_of(container, stream)):
        if number == num_packets:
            break
        if should_stop():
            raise ReadingStopped
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

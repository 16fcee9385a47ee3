"""Writer of small H.264 clips that every browser plays."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.media.video.container import no_frames_error
from pipelines.media.video.frames import Pixels, indices_between
from pipelines.media.video.open import open_video

#: Time base of the files in ticks per second, suitable for all frame rates.
_TICKS = 90_000

#: Maximum number of frames in memory.
_AT_ONCE = 32


def write_clip(
    path_in: Path,
    start_s: float,
    end_s: float,
    path_out: Path,
    *,
    max_side_px: int = 640,
    cancel: CancelToken = NEVER,
) -> None:
    """Write a part of a video, with its frame times, as a small MP4 without audio.

    An `end_s` of 0.0 is the end of the video; `max_side_px` is the longest side of the frames.

    Raises:
        InputError: the part is not within the video.
        MediaError: the video cannot be read.
        Cancelled: `cancel` is cancelled.
    """
    with open_video(path_in, cancel=cancel) as reader:
        indices = indices_between(reader.times_s, start_s, end_s)
        info = reader.info
        shrink = min(1.0, max_side_px / max(info.height_px, info.width_px))
        height, width = (
            max(2, round(side * shrink / 2) * 2) for side in (info.height_px, info.width_px)
        )
        first_s = float(reader.times_s[indices[0]])

        def frames() -> Iterable[tuple[float, Pixels]]:
            num_lost = 0
            parts = reader.frames_in_order(
                indices, (height, width), at_once=_AT_ONCE, cancel=cancel
            )
            for part in parts:
                num_lost += part.num_lost
                for time_s, pixels in zip(part.times_s, part.pixels, strict=True):
                    yield float(time_s) - first_s, pixels
            if num_lost == len(indices):
                raise no_frames_error(path_in, num_lost)

        _write(frames(), path_out, info.average_fps or 25.0)


def _write(frames: Iterable[tuple[float, Pixels]], path: Path, fps: float) -> None:
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream: Any = None
            for time_s, pixels in frames:
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
                stream = stream or _stream(container, frame, fps)
                frame.pts = round(time_s * _TICKS)
                frame.time_base = Fraction(1, _TICKS)
                container.mux(stream.encode(_as_bt709(frame)))
            container.mux(stream.encode(None))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _as_bt709(frame: av.VideoFrame) -> av.VideoFrame:
    """Return an RGB frame as YUV in the colours with which `_stream` tags the file."""
    return frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )


def _stream(container: Any, frame: Any, fps: float) -> Any:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
    codec = stream.codec_context
    codec.time_base = Fraction(1, _TICKS)
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream

"""What a video is, and what is read of it."""

from dataclasses import dataclass

from pipelines.media.video.frames import Numbers, Times
from pipelines.video_pixels import Pixels


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Attributes:
        start_s: when the first frame appears on a player's clock; often 0.0.
        duration_s: from the first frame to the end of the last.
        num_frames: frames that decoding the whole file gives.
        average_fps: frames per second, on average; 0.0 where there is no second frame.
        rotation_deg: how far stored frames are turned clockwise to be upright: 0, 90, 180, 270.
        width_px: width of an upright frame as it is displayed.
        height_px: height of the same.
        codec: the decoder's name, such as "h264".
        variable_rate: whether the time between two frames varies.
    """

    start_s: float
    duration_s: float
    num_frames: int
    average_fps: float
    rotation_deg: int
    width_px: int
    height_px: int
    codec: str
    variable_rate: bool

    @property
    def end_s(self) -> float:
        """When the last frame ends on a player's clock."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of a video.

    Attributes:
        pixels: upright frames (N, H, W, 3), uint8, RGB, in the order asked for, without the lost.
        indices: number of each frame (N,).
        times_s: when each appears on a player's clock (N,).
        lost: numbers of the frames that were asked for and cannot be read, ascending.
        num_asked: how many different frames were asked for.
    """

    pixels: Pixels
    indices: Numbers
    times_s: Times
    lost: tuple[int, ...]
    num_asked: int

    @property
    def num_lost(self) -> int:
        """How many different frames were asked for and cannot be read."""
        return len(self.lost)

    @property
    def highest(self) -> int:
        """The highest number that was asked for."""
        return max(int(self.indices.max(initial=-1)), *self.lost, -1)

    @property
    def notice(self) -> str:
        """One sentence for a person where frames are lost, else ""."""
        if not self.lost:
            return ""
        return (
            f"{self.num_lost} of {self.num_asked} frames could not be read because the video is "
            "damaged there; the others are used."
        )

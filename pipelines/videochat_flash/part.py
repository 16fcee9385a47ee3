"""What of a video is looked at. Torch-free."""

from dataclasses import dataclass

#: Frames that can be asked for: from one clip on.
MIN_FRAMES, MAX_FRAMES = 4, 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a video, and how closely it is looked at.

    Attributes:
        max_frames: most frames, spread evenly over the part; 4 to 1024.
        start_s: start of the part.
        end_s: its end; 0.0 means the end of the video.
    """

    max_frames: int = 64
    start_s: float = 0.0
    end_s: float = 0.0


#: All of a video.
WHOLE = Part()

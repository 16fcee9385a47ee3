"""What of a video is looked at. Torch-free."""

from dataclasses import dataclass

from pipelines.core.options import number, whole_number

#: Frames that can be asked for: from one clip on.
MIN_FRAMES, MAX_FRAMES = 4, 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a video, and how closely it is looked at; checked when made.

    Attributes:
        max_frames: most frames, spread evenly over the part; 4 to 1024.
        start_s: start of the part.
        end_s: its end; 0.0 means the end of the video.

    Raises:
        InputError: a value is no number, or there are too few frames or too many.
    """

    max_frames: int = 64
    start_s: float = 0.0
    end_s: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        frames = whole_number("max_frames", self.max_frames, MIN_FRAMES, MAX_FRAMES)
        object.__setattr__(self, "max_frames", frames)
        for name in ("start_s", "end_s"):
            object.__setattr__(self, name, number(name, getattr(self, name)))


#: All of a video.
WHOLE = Part()

"""Pure functions: what a model looks at in a video -> HTML."""

import base64
import html
import io
from collections.abc import Mapping

from PIL import Image

from components.chat_times import times_in
from components.render.video import clock
from pipelines.models.videochat_flash.results import Estimate, SeenFrames, VideoAnswer
from pipelines.serving.video_prefetch import Ahead
from pipelines.video_pixels import Pixels

#: Frames in the strip; of more, so many evenly spread ones are shown.
FRAMES_SHOWN = 96

_QUALITY = 72


def times_shown(seen: SeenFrames) -> list[float]:
    """Return the times of the frames that the strip shows."""
    times = list(dict.fromkeys(seen.times_s))
    return times[:: max(1, -(-len(times) // FRAMES_SHOWN))]


def film_strip(seen: SeenFrames, pictures: Mapping[float, Pixels]) -> str:
    """Return the frames that were looked at, each with its time as a link, as HTML.

    Args:
        seen: their times.
        pictures: (H, W, 3) uint8 RGB, by time; a frame without one is left out.
    """
    shown, number = times_shown(seen), len(set(seen.times_s))
    fine = seen.every_s < 0.1

    def named(time_s: float) -> str:
        return f"{time_s:.2f} s" if fine else clock(time_s)

    cells = "".join(
        f"<a href='#t={time_s:.3f}' title='Go to {named(time_s)}'><img alt='' "
        f"src='{_jpeg(pictures[time_s])}'><span>{named(time_s)}</span></a>"
        for time_s in shown
        if time_s in pictures
    )
    what = f"{len(shown)} of the {number} frames" if len(shown) < number else _count(number)
    return (
        f"<p class='film-label'>What the model saw: {what}{_spacing(seen)}. Click one to go "
        f"there.</p><div class='film'>{cells}</div>"
    )


#: From so many seconds on it is told that the model counts from a later time than a player.
_SHIFT_S = 0.5


def answer_notes(answer: VideoAnswer) -> list[str]:
    """Return what a person should know about an answer, also from where its times count."""
    notes, seen = list(answer.notes), answer.seen
    from_s = seen.counted_from_s
    if from_s >= _SHIFT_S and times_in(answer.text, seen.video_end_s - from_s):
        notes.append(
            f"Times in the answer count from {clock(from_s)}, where the part that the model saw "
            "starts."
        )
    return notes


def plan_line(ahead: Ahead) -> str:
    """Return what a question would take and how far the video is prepared, as HTML."""
    estimate = ahead.estimate
    if estimate is None:
        return message_line(ahead.problem, "warning")
    facts = [
        f"{_count(len(set(estimate.seen.times_s)))}{_spacing(estimate.seen)}",
        f"{estimate.num_tokens:,} of {estimate.limit_tokens:,} tokens",
        f"{_memory(estimate.need_gb)} of memory",
    ]
    if estimate.seconds is not None and estimate.fits and not ahead.ready:
        facts.append(f"first word after {_duration(estimate.seconds)}")
    lines = [f"<p>{' · '.join(facts)}</p>", *_warnings(estimate)]
    if ahead.ready:
        lines.append("<p>The video is prepared: questions start at once.</p>")
    elif ahead.step is not None:
        lines.append(
            f"<p>Preparing the video while you type: {ahead.step.done} of {ahead.step.total} "
            "frames.</p>"
        )
    return f"<div class='plan'>{''.join(lines)}</div>"


def message_line(text: str, kind: str = "") -> str:
    """Return one sentence in place of a plan, as HTML."""
    return f"<div class='plan'><p class='{kind}'>{html.escape(text)}</p></div>"


def _warnings(estimate: Estimate) -> list[str]:
    if not estimate.fits:
        what = (
            f"{_memory(estimate.need_gb)} are needed and {_memory(max(0, estimate.free_gb))} free"
            if estimate.need_gb > estimate.free_gb
            else "that is more than the model reads at once"
        )
        smaller = f"Allow {estimate.smaller} frames" if estimate.smaller else "Choose another model"
        return [f"<p class='warning'>This does not fit: {what}. {smaller}.</p>"]
    if estimate.seen.every_s >= 2.5:
        return [
            "<p class='warning'>What happens between two frames is not seen. For a closer look, "
            "choose a part of the video below, or allow more frames.</p>"
        ]
    return []


def _spacing(seen: SeenFrames) -> str:
    if len(set(seen.times_s)) < 2:
        return ""
    every = seen.every_s
    return f", one every {every:.0f} s" if every >= 10 else f", one every {every:.2g} s"


def _count(number: int) -> str:
    return "one frame" if number == 1 else f"{number:,} frames"


def _memory(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.95 else f"{gigabytes * 1000:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} minutes"


def _jpeg(picture: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

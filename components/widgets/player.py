"""Player of an uploaded video, and galleries of frames to click."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import gradio as gr

from components.server.gradio_internals import WithoutStub
from pipelines.core.errors import InputError

Item = TypeVar("Item")


class Player(gr.Video, metaclass=WithoutStub):
    """Player of a file as it is.

    Gradio runs ffprobe on each file that it shows, and ffmpeg on those that it expects no browser
    to play: outside of `pipelines.media.isolation`, without limits, and on when the visitor has
    left. Where a browser cannot play a file, its player says so; all else works.
    """

    is_template = True  # on the page it is a gr.Video

    def postprocess(self, value: str | Path | None) -> gr.FileData | None:
        """Return the file for the page."""
        return gr.FileData(path=str(value), orig_name=Path(value).name) if value else None


def result_player() -> Player:
    """Lay out the player of results; it is hidden until there are any."""
    return Player(
        label="Player", height=300, interactive=False, visible=False, elem_classes="player"
    )


def fit_choice() -> gr.Dropdown:
    """Lay out the choice of how frames become the square that a model reads."""
    return gr.Dropdown(
        [
            ("Squash it, as in training", "squash"),
            ("Keep all of it, between bars", "letterbox"),
            ("Cut off what is outside the middle", "centre-crop"),
        ],
        value="squash",
        label="A frame that is not square",
        info="The model reads squares. What is cut off is not seen.",
    )


def frame_gallery(label: str) -> gr.Gallery:
    """Lay out a gallery of frames or results to click; it is hidden until there are any."""
    return gr.Gallery(
        label=label,
        visible=False,
        columns=4,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_classes="frames",
    )


def chosen_of(listed: Sequence[Item], number: int) -> Item:
    """Return the clicked item, counted from 0, of a list that the page shows.

    Raises:
        InputError: the list was deleted, as a `gr.State` is some time after its page was left.
    """
    if not 0 <= number < len(listed):
        raise InputError(
            "This list is no longer on the server, which gives it up some time after its page was "
            "left. Ask again, then choose from the new list.",
            title="Deleted meanwhile",
        )
    return listed[number]

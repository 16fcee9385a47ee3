"""Parts that the tabs are laid out with, and files to download."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import gradio as gr

from components.server.services import RequestHandlers, Services
from components.widgets.queues import PAGE_EVENT
from pipelines.core.settings import Settings

Left = TypeVar("Left")
Right = TypeVar("Right")

#: Update of a component that is hidden.
HIDDEN: dict[str, Any] = gr.update(visible=False)


class TabHandlers(RequestHandlers, Generic[Left]):
    """Handlers of the events of a tab with these controls."""

    def __init__(self, services: Services, controls: Left) -> None:
        super().__init__(services)
        self._controls = controls


def lay_out_tab(
    title: str, lead: str, left: Callable[[], Left], right: Callable[[], Right]
) -> tuple[gr.Tab, Left, Right]:
    """Lay out a tab: its lead, and what a visitor sets beside what it gives."""
    with gr.Tab(title, id=title.lower().replace(" ", "-")) as tab:
        gr.Markdown(lead, elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = left()
            with gr.Column(scale=6, min_width=300, elem_classes="answer"):
                results = right()
    return tab, controls, results


def run_and_stop(label: str) -> tuple[gr.Button, gr.Button]:
    """Lay out the button of a request and the one that stops it."""
    with gr.Row():
        run = gr.Button(label, variant="primary", elem_classes="go")
        return run, gr.Button("Stop", min_width=80, scale=0)


def wording_choice() -> gr.Dropdown:
    """Lay out the choice of how a label becomes a text, the value of `templates`."""
    return gr.Dropdown(
        [
            ("“a photo of a …”", "photo"),
            ("Ensemble: average of several wordings", "ensemble"),
            ("None: the label as it is", ""),
        ],
        value="photo",
        label="Wording",
        allow_custom_value=True,
        info="How each label becomes a text. Or write your own, with {} for the label.",
    )


def time_range() -> tuple[gr.Number, gr.Number]:
    """Lay out start and end of a part of a video, in seconds; an end of 0 is that of the video."""
    with gr.Row():
        start = gr.Number(0.0, label="From (s)", info="0 for the start.", minimum=0, min_width=120)
        end = gr.Number(0.0, label="To (s)", info="0 for the end.", minimum=0, min_width=120)
    return start, end


def hidden_html() -> gr.HTML:
    """Lay out HTML that is shown once it has content."""
    return gr.HTML(visible=False, padding=False)


def download_button(label: str, min_width: int = 140, **look: Any) -> gr.DownloadButton:
    """Lay out a button that is shown once there is a file to download."""
    return gr.DownloadButton(label, visible=False, size="sm", min_width=min_width, **look)


def show(value: Any) -> dict[str, Any]:
    """Return the update of a component that is shown from now on."""
    return gr.update(value=value, visible=True)


def offer(settings: Settings, name: str, content: str | bytes) -> dict[str, Any]:
    """Write a file and return the update of its download button."""
    return show(save_result(settings, name, content))


def result_path(settings: Settings, name: str) -> Path:
    """Return where to write a file for a visitor to download, in a folder of its own."""
    folder = settings.work_dir / "results" / secrets.token_urlsafe(16)
    folder.mkdir(parents=True)
    return folder / name


def save_result(settings: Settings, name: str, content: str | bytes) -> str:
    """Write a file for a visitor to download; returns its path."""
    path = result_path(settings, name)
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(data)
    return str(path)


def browser_secret(page: gr.Blocks, name: str) -> gr.BrowserState:
    """Lay out a secret of the visitor's browser, the key to what belongs to it."""
    owner = gr.BrowserState("", storage_key=name, secret=name)

    def keep(secret: Any) -> str:
        return secret if isinstance(secret, str) and secret else secrets.token_urlsafe(24)

    page.load(keep, owner, owner, **PAGE_EVENT)
    return owner

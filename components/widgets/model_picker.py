"""Choice of a model, and what the page says about the chosen one."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.translate import language, say
from components.widgets.queues import PAGE_EVENT
from pipelines.core.messages import Message
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.catalogue import CATALOGUE, MODELS, demo_of
from pipelines.serving.store import PipelineStore
from pipelines.weights.demo_card import read_demo_card


def is_bundled(store: PipelineStore, task: Task) -> bool:
    """Return whether the demo checkpoint of a task is there; without it a tab cannot be tried."""
    return store.sources.locate(demo_of(task)) is not None


def is_demo(key: str) -> bool:
    """Return whether a model is a bundled one; remote models are not in the catalogue."""
    return key in CATALOGUE and CATALOGUE[key].demo


class ModelPicker:
    """Model dropdown of a tab, and the line under it: size, place and licence.

    `wire_model_picker` sets its value, a catalogue key, when the page opens.
    """

    def __init__(self, task: Task, label: str = "Model") -> None:
        choices = [(spec.title, spec.key) for spec in MODELS if spec.task == task]
        start = choices[-1][1]
        self.dropdown = gr.Dropdown(choices, value=start, label=label, elem_classes="model-picker")
        self.hint = gr.Markdown(elem_classes="model-hint")


def wire_model_picker(
    store: PipelineStore, task: Task, picker: ModelPicker, page: gr.Blocks
) -> None:
    """Offer the remote models too, set the default when the page opens, and update the hint."""
    able = [spec for spec in store.models if spec.task == task]
    picker.dropdown.choices = [(spec.title, spec.key) for spec in able]

    @show_errors
    def start() -> tuple[str, str]:
        spec = store.default_spec(task)
        return spec.key, model_hint(store, spec)

    @show_errors
    def describe(key: str) -> str:
        return model_hint(store, store.resolve(key, task))

    page.load(start, None, [picker.dropdown, picker.hint], **PAGE_EVENT)
    picker.dropdown.input(describe, picker.dropdown, picker.hint, **PAGE_EVENT)


def model_hint(store: PipelineStore, spec: ModelSpec) -> str:
    """Return size, place and licence of a model, the line under the picker."""
    if spec.demo:
        videos = spec.task in ("video-text", "video-chat")
        known = "drawn videos of moving" if videos else "drawings of coloured"
        return say(
            "Comes with SeeSay and needs no network. Knows {shapes} shapes only, in English words.",
            shapes=Message(known),
        )
    if spec.remote is not None:
        told = "Runs elsewhere: your pictures and your words are sent to {host}."
        if spec.task == "video-chat":
            told = "Runs elsewhere: your video and your words are sent to {host}."
        return say(told, host=spec.remote.host)
    where = Message("on this machine")
    if store.sources.locate(spec) is None:
        where = Message("{size:.1f} GB, downloaded on first use", size=spec.download_gb)
    return say(
        "`{repo}` · {place} · {size:.1f} GB of memory · {licence}",
        repo=spec.repo,
        place=where,
        size=store.need_gb(spec),
        licence=spec.licence,
    )


def badge(store: PipelineStore, spec: ModelSpec) -> str:
    """Return the badge of a demo model as HTML, "" for a real one."""
    folder = store.sources.locate(spec) if spec.demo else None
    return fmt.demo_badge(read_demo_card(folder) if folder else None)


def notices_of(store: PipelineStore, spec: ModelSpec, notes: Sequence[str]) -> dict[str, Any]:
    """Return the update of the component that shows the demo badge and the notes on an answer."""
    return fmt.shown_if_any(fmt.notices(notes, badge(store, spec)))


def asked_in_chinese(key: str) -> bool:
    """Return whether a model reads Chinese only, or Chinese too and the browser asks for it."""
    languages = CATALOGUE[key].languages if key in CATALOGUE else ()
    return languages == ("zh",) or ("zh" in languages and language() == "zh")

"""The caption of an image: streamed, continued from a prompt, several to choose from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.uploads import Uploads
from components.widgets.common import DEVICE_QUEUE, badge, save_result
from components.widgets.generation import GenerationControls
from components.widgets.model_lease import lease
from pipelines.models.catalogue import Task
from pipelines.serving.store import PipelineStore

TASK: Task = "caption"

#: Captions to choose from.
NUM_CANDIDATES = 5

#: Values for the outputs, and a sign of life.
_NOTHING = (gr.skip(),) * 4


@dataclass(frozen=True)
class Parts:
    """The components of this part."""

    prompt: gr.Textbox
    run: gr.Button
    stop: gr.Button
    several: gr.Button
    notices: gr.HTML
    caption: gr.Textbox
    candidates: gr.HTML
    download: gr.DownloadButton

    @property
    def results(self) -> list[Any]:
        """The outputs of every handler, in order."""
        return [self.notices, self.caption, self.candidates, self.download]


def build(
    store: PipelineStore, image: gr.Image, model: gr.Dropdown, settings: GenerationControls
) -> dict[str, Any]:
    """Lay out and wire the part; returns the event that captions, for the examples."""
    parts = _lay_out()
    one, several = _handlers(store, image, model, settings, parts)
    inputs = {image, model, parts.prompt, *settings.inputs}
    private: dict[str, Any] = {"api_visibility": "private", **DEVICE_QUEUE}
    ask: dict[str, Any] = {
        "fn": one,
        "inputs": inputs,
        "outputs": parts.results,
        "show_progress_on": [parts.caption],
        **private,
    }
    running = [
        gr.on([parts.run.click, parts.prompt.submit], **ask),
        parts.several.click(
            several, inputs, parts.results, show_progress_on=[parts.candidates], **private
        ),
    ]
    parts.stop.click(None, cancels=running, api_visibility="private")
    return ask


def _lay_out() -> Parts:
    prompt = gr.Textbox(
        label="Begin with",
        placeholder="Optional: words that the caption goes on from, such as: a photo of",
        max_lines=4,
    )
    with gr.Row():
        run = gr.Button("Caption", variant="primary", elem_classes="go")
        stop = gr.Button("Stop", min_width=80, scale=0)
    notices = gr.HTML(visible=False, padding=False)
    caption = gr.Textbox(
        label="Caption",
        lines=3,
        interactive=False,
        buttons=["copy"],
        placeholder="The caption appears here.",
    )
    with gr.Row():
        several = gr.Button(f"{NUM_CANDIDATES} captions to choose from", size="sm", min_width=140)
        download = gr.DownloadButton("Download", visible=False, size="sm", min_width=140)
    candidates = gr.HTML(visible=False, padding=False)
    return Parts(prompt, run, stop, several, notices, caption, candidates, download)


def _handlers(
    store: PipelineStore,
    image: gr.Image,
    model: gr.Dropdown,
    settings: GenerationControls,
    parts: Parts,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    uploads = Uploads(store.settings)

    @show_errors
    def one(values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        options = settings.options(values)
        file, spec = uploads.path(values[image], "The picture"), store.resolve(values[model], TASK)
        hidden = gr.update(visible=False)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait(_NOTHING)
            describer = lent.pipeline
            text = ""
            for delta in describer.stream_caption(file, values[parts.prompt], options):
                text += delta.text
                if delta.result is None:
                    yield gr.skip(), text, hidden, hidden
        assert delta.result is not None  # every stream that does not raise ends with one
        notices = fmt.shown_if_any(fmt.notices(delta.result.notes, badge(store, spec)))
        saved = save_result(store.settings, "caption.txt", text + "\n")
        yield notices, text, hidden, gr.update(value=saved, visible=True)

    @show_errors
    def several(values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        options = settings.options(values)
        file, spec = uploads.path(values[image], "The picture"), store.resolve(values[model], TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait(_NOTHING)
            describer = lent.pipeline
            prompt, found = values[parts.prompt], []
            for result in describer.iter_candidates(file, NUM_CANDIDATES, options, prompt):
                if result is None:
                    yield _NOTHING
                else:
                    found.append(result)
        texts = list(dict.fromkeys(result.text for result in found if result.text))
        with lease(store, "", "image-text") as lent:
            yield from lent.wait(_NOTHING)
            clip = lent.pipeline
            ranked = clip.classify(file, texts)
        notes = dict.fromkeys(note for result in found for note in result.notes)
        saved = save_result(store.settings, "captions.csv", fmt.scores_csv(ranked))
        yield (
            fmt.shown_if_any(fmt.notices(list(notes), badge(store, spec))),
            ranked.scores[0].label,
            gr.update(value=fmt.scores_table(ranked, "Caption"), visible=True),
            gr.update(value=saved, visible=True),
        )

    return one, several

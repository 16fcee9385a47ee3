"""One image in words: a caption, or a conversation about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.uploads import Uploads
from components.widgets import chat
from components.widgets.chat import Panel, Subject, as_text, back_to_question, said
from components.widgets.common import (
    DEVICE_QUEUE,
    ExampleStrip,
    ModelPicker,
    badge,
    example_strip,
    model_picker,
    save_result,
    wire_example_strip,
    wire_model_picker,
)
from components.widgets.examples import describe_examples
from components.widgets.generation import GenerationControls, generation_settings, wire_longest
from components.widgets.model_lease import lease
from pipelines.core.spec import Task
from pipelines.serving.store import PipelineStore

TASK: Task = "caption"

#: Captions to choose from.
NUM_CANDIDATES = 5

#: Values for the outputs, and a sign of life.
_NOTHING = (gr.skip(),) * 4


@dataclass(frozen=True)
class CaptionControls:
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


def build_caption(
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


def _lay_out() -> CaptionControls:
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
        several = gr.Button("5 captions to choose from", size="sm", min_width=140)
        download = gr.DownloadButton("Download", visible=False, size="sm", min_width=140)
    candidates = gr.HTML(visible=False, padding=False)
    return CaptionControls(prompt, run, stop, several, notices, caption, candidates, download)


def _handlers(
    store: PipelineStore,
    image: gr.Image,
    model: gr.Dropdown,
    settings: GenerationControls,
    parts: CaptionControls,
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


EMPTY = "Choose a picture and ask about it: what is there, how many, which colour, where."


def build_chat(
    store: PipelineStore, image: gr.Image, model: gr.Dropdown, settings: GenerationControls
) -> None:
    """Lay out and wire the part."""
    panel = chat.lay_out(EMPTY, "What colour is the circle?")
    subject = Subject(
        image,
        missing="The picture is missing. Upload or choose one.",
        empty="The question is empty. Ask something about the picture.",
    )
    answer = _answering(store, image, model, settings, panel)
    chat.wire(panel, subject, answer, [model, *settings.inputs])


def _answering(
    store: PipelineStore,
    image: gr.Image,
    model: gr.Dropdown,
    settings: GenerationControls,
    panel: Panel,
) -> Callable[..., Any]:
    uploads = Uploads(store.settings)

    @show_errors
    def answer(values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        messages = panel.messages(values[panel.chat])
        before, question = back_to_question(messages, len(messages) - 1)
        options = settings.options(values)
        file, spec = uploads.path(values[image], "The picture"), store.resolve(values[model], TASK)
        asked = [*before, {"role": "user", "content": question}]
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 4)
            describer = lent.pipeline
            text = ""
            for delta in describer.stream_chat(file, question, before, options):
                text += delta.text
                if delta.result is None:
                    yield gr.skip(), [*asked, said(text)], gr.skip(), gr.skip()
        result = delta.result
        assert result is not None  # every stream that does not raise ends with one
        whole = [*asked, said(text)]
        saved = save_result(store.settings, "conversation.txt", as_text(whole))
        yield (
            fmt.shown_if_any(fmt.notices(result.notes, badge(store, spec))),
            whole,
            gr.update(value=fmt.context_meter(result.context), visible=True),
            gr.update(value=saved, visible=True),
        )

    return answer


@dataclass(frozen=True)
class ImageInputs:
    """What is talked about, and by which model."""

    image: gr.Image
    strip: ExampleStrip
    picker: ModelPicker
    settings: GenerationControls


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Describe", id="describe"):
        gr.Markdown(
            "What is in this picture? Get a caption, or ask about it in as many turns as you like.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                subject = _lay_out_subject()
            with gr.Column(scale=6, min_width=300), gr.Tabs():
                asked = (subject.image, subject.picker.dropdown, subject.settings)
                with gr.Tab("Caption", id="caption"):
                    caption = build_caption(store, *asked)
                with gr.Tab("Ask", id="ask"):
                    build_chat(store, *asked)
    wire_model_picker(store, TASK, subject.picker, page)
    wire_longest(subject.settings, subject.picker.dropdown, page)

    def run_caption(filled: Any) -> None:
        filled.then(**caption)

    wire_example_strip(subject.strip, [subject.image], subject.picker.dropdown, run_caption)


def _lay_out_subject() -> ImageInputs:
    image = gr.Image(
        type="filepath",
        image_mode=None,  # the file as it is: pipelines.media.images brings every mode to RGB
        label="Picture",
        height=320,
        sources=["upload", "clipboard", "webcam"],
    )
    strip = example_strip(lambda: gr.Image(type="filepath", render=False), *describe_examples())
    picker = model_picker(TASK)
    return ImageInputs(image, strip, picker, generation_settings(40))

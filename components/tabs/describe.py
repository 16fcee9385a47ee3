"""One image in words: a caption, or a conversation about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.services import Services
from components.widgets import chat
from components.widgets.chat import Panel, Subject, as_text, back_to_question, said
from components.widgets.examples import describe_examples, example_strip, wire_example_strip
from components.widgets.generation import GenerationControls, wire_longest
from components.widgets.layout import (
    HIDDEN,
    TabHandlers,
    download_button,
    hidden_html,
    lay_out_tab,
    offer,
    run_and_stop,
    show,
)
from components.widgets.model_lease import lease
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.queues import DEVICE_QUEUE
from pipelines.core.options import GenerationOptions
from pipelines.core.spec import ModelSpec, Task

TASK: Task = "caption"

#: Captions to choose from.
NUM_CANDIDATES = 5

EMPTY = "Choose a picture and ask about it: what is there, how many, which colour, where."


class Controls:
    """Input components for captions and conversations."""

    def __init__(self) -> None:
        self.image = gr.Image(
            type="filepath",
            image_mode=None,  # the file as it is: pipelines.media.images brings every mode to RGB
            label="Picture",
            height=320,
            sources=["upload", "clipboard", "webcam"],
        )
        self.strip = example_strip(
            lambda: gr.Image(type="filepath", render=False), *describe_examples()
        )
        self.picker = ModelPicker(TASK)
        self.settings = GenerationControls(40)
        self.inputs: list[Any] = [self.picker.dropdown, *self.settings.inputs]


class CaptionPanel:
    """Input and output components of the Caption tab."""

    def __init__(self) -> None:
        self.prompt = gr.Textbox(
            label="Begin with",
            placeholder="Optional: words that the caption goes on from, such as: a photo of",
            max_lines=4,
        )
        self.run, self.stop = run_and_stop("Caption")
        self.notices = hidden_html()
        self.caption = gr.Textbox(
            label="Caption",
            lines=3,
            interactive=False,
            buttons=["copy"],
            placeholder="The caption appears here.",
        )
        with gr.Row():
            self.several = gr.Button("5 captions to choose from", size="sm", min_width=140)
            self.download = download_button("Download")
        self.candidates = hidden_html()
        self.outputs: list[Any] = [self.notices, self.caption, self.candidates, self.download]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    lead = "What is in this picture? Get a caption, or ask about it in as many turns as you like."
    _, controls, (caption, panel) = lay_out_tab("Describe", lead, Controls, _lay_out_results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    wire_longest(controls.settings, controls.picker.dropdown, page)
    handlers = Handlers(services, controls, caption, panel)
    _wire_caption(handlers, controls, caption)
    _wire_chat(handlers, controls, panel)


def _lay_out_results() -> tuple[CaptionPanel, Panel]:
    with gr.Tabs():
        with gr.Tab("Caption", id="caption"):
            caption = CaptionPanel()
        with gr.Tab("Ask", id="ask"):
            panel = Panel(EMPTY, "What colour is the circle?")
    return caption, panel


#: Values of the outputs of a caption or an answer that change nothing.
_NOTHING = (gr.skip(),) * 4


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    def __init__(
        self, services: Services, controls: Controls, caption: CaptionPanel, panel: Panel
    ) -> None:
        super().__init__(services, controls)
        self._caption, self._panel = caption, panel

    def _request(self, values: dict[Any, Any]) -> tuple[Path, ModelSpec, GenerationOptions]:
        options = self._controls.settings.options(values)
        file = self._uploads.path(values[self._controls.image], "The picture")
        return file, self._store.resolve(values[self._controls.picker.dropdown], TASK), options

    @show_errors
    def caption(self, values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `CaptionPanel.outputs`, with the caption so far."""
        file, spec, options = self._request(values)
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING)
            text, prompt = "", values[self._caption.prompt]
            for delta in held.pipeline.stream_caption(file, prompt, options):
                text += delta.text
                if delta.result is None:
                    yield gr.skip(), text, HIDDEN, HIDDEN
        assert delta.result is not None  # every stream that does not raise ends with one
        notices = notices_of(self._store, spec, delta.result.notes)
        yield notices, text, HIDDEN, offer(self._settings, "caption.txt", text + "\n")

    @show_errors
    def several(self, values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `CaptionPanel.outputs`, with captions ranked by a second model."""
        file, spec, options = self._request(values)
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING)
            prompt, found = values[self._caption.prompt], []
            for one in held.pipeline.iter_candidates(file, NUM_CANDIDATES, options, prompt):
                if one is None:
                    yield _NOTHING
                else:
                    found.append(one)
        texts = list(dict.fromkeys(result.text for result in found if result.text))
        with lease(self._store, "", "image-text") as held:
            yield from held.wait(_NOTHING)
            ranked = held.pipeline.classify(file, texts)
        notes = dict.fromkeys(note for result in found for note in result.notes)
        yield (
            notices_of(self._store, spec, list(notes)),
            ranked.scores[0].label,
            show(fmt.scores_table(ranked, "Caption")),
            offer(self._settings, "captions.csv", fmt.scores_csv(ranked)),
        )

    @show_errors
    def answer(self, values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Panel.outputs`, with the answer so far."""
        messages = self._panel.messages(values[self._panel.chat])
        before, question = back_to_question(messages, len(messages) - 1)
        file, spec, options = self._request(values)
        asked, text = [*before, {"role": "user", "content": question}], ""
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING)
            for delta in held.pipeline.stream_chat(file, question, before, options):
                text += delta.text
                if delta.result is None:
                    yield gr.skip(), [*asked, said(text)], gr.skip(), gr.skip()
        result, whole = delta.result, [*asked, said(text)]
        assert result is not None  # every stream that does not raise ends with one
        yield (
            notices_of(self._store, spec, result.notes),
            whole,
            show(fmt.context_meter(result.context)),
            offer(self._settings, "conversation.txt", as_text(whole)),
        )


def _wire_caption(handlers: Handlers, controls: Controls, panel: CaptionPanel) -> None:
    ask: dict[str, Any] = {
        "inputs": {controls.image, panel.prompt, *controls.inputs},
        "outputs": panel.outputs,
        "api_visibility": "private",
        **DEVICE_QUEUE,
    }
    caption = {"fn": handlers.caption, "show_progress_on": [panel.caption], **ask}
    running = [
        gr.on([panel.run.click, panel.prompt.submit], **caption),
        panel.several.click(handlers.several, show_progress_on=[panel.candidates], **ask),
    ]
    panel.stop.click(None, cancels=running, api_visibility="private")
    for filled in wire_example_strip(controls.strip, [controls.image], controls.picker.dropdown):
        filled.then(**caption)


def _wire_chat(handlers: Handlers, controls: Controls, panel: Panel) -> None:
    subject = Subject(
        controls.image,
        missing="The picture is missing. Upload or choose one.",
        empty="The question is empty. Ask something about the picture.",
    )
    chat.wire(panel, subject, handlers.answer, controls.inputs)

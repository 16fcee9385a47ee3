"""A conversation about an image."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from components.conversation import as_text, back_to_question
from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.uploads import Uploads
from components.widgets import chat
from components.widgets.chat import Panel, Subject, said
from components.widgets.common import badge, save_result
from components.widgets.generation import GenerationControls
from components.widgets.model_lease import lease
from pipelines.models.catalogue import Task
from pipelines.serving.store import PipelineStore

TASK: Task = "caption"

EMPTY = "Choose a picture and ask about it: what is there, how many, which colour, where."


def build(
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

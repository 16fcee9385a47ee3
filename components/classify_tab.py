"""Zero-shot classification of an image with labels of one's own."""

from typing import Any

import gradio as gr

from components import format as fmt
from components.common import BATCHED_QUEUE, lease, model_choices
from components.errors import show_errors
from components.files import Uploads
from pipelines.labels import split_labels
from pipelines.store import PipelineStore


def build(store: PipelineStore) -> None:
    """Lay out the tab."""
    uploads = Uploads(store.settings)
    with gr.Tab("Classify", id="classify"):
        image = gr.Image(type="filepath", label="Image")
        labels = gr.Textbox(label="Labels", lines=4)
        model = gr.Dropdown(model_choices("image-text"), value="demo-clip", label="Model")
        run = gr.Button("Classify", variant="primary")
        chart = gr.Label(label="Best labels")

    @show_errors
    def classify(path: str, text: str, key: str, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        names, repeated = split_labels(text)
        file = uploads.path(path, "The image")
        with lease(store, key, "image-text", progress) as clip:
            result = clip.classify(file, names)
        return fmt.as_label(result, repeated)

    gr.on([run.click], classify, [image, labels, model], chart, api_visibility="private",
          **BATCHED_QUEUE)  # fmt: skip

"""What the tabs share: queues, model picker, notices, downloads."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.translate import language, say
from pipelines.core.messages import Message
from pipelines.core.results import Step
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.catalogue import CATALOGUE, MODELS, demo_of
from pipelines.serving.store import PipelineStore
from pipelines.weights.demo_card import read_demo_card

#: For work that takes the device for seconds (text generation). Its requests are all let in, since
#: some wait for a download meanwhile, or for a server; a lease gives the others the device one
#: after the other. Which model is asked for is an argument, so servers have no queue of their own:
#: `RemoteModels.visitor` and `pipelines.weights.locate` leave a quarter of the places to the rest.
DEVICE_QUEUE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 64}

#: For batches of thousands of pictures, which take turns at the device batch by batch and let
#: those of `DEVICE_QUEUE` go first (`pipelines.serving.device_queue`). Few of them are under way
#: at once; the others are let in all the same, so that their uploads stay while they wait.
BATCH_QUEUE: dict[str, Any] = {"concurrency_id": "batch", "concurrency_limit": 16}

#: For requests of milliseconds that are batched together (`pipelines.compute.micro_batches`): up
#: to one batch of visitors at once. Those who wait for a download wait here too;
#: `pipelines.weights.locate` lets no more than half of the places be taken so.
BATCHED_QUEUE: dict[str, Any] = {"concurrency_id": "batched", "concurrency_limit": 32}

#: For videos that are prepared while their visitors still type; they give way to everybody else.
AHEAD_QUEUE: dict[str, Any] = {"concurrency_id": "ahead", "concurrency_limit": 8}

#: For what needs no model: never behind those who do.
LOOKUP_QUEUE: dict[str, Any] = {"concurrency_id": "lookup", "concurrency_limit": 4}

#: Requests that are under way at once: all that the queues let in, and some events of pages.
MOST_AT_ONCE = 16 + sum(
    queue["concurrency_limit"]
    for queue in (DEVICE_QUEUE, BATCH_QUEUE, BATCHED_QUEUE, AHEAD_QUEUE, LOOKUP_QUEUE)
)

#: For events that only change the page.
PAGE_EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


#: What the template picker offers, (title, value of `templates`).
TEMPLATE_CHOICES = [
    ("“a photo of a …”", "photo"),
    ("Ensemble: average of several wordings", "ensemble"),
    ("None: the label as it is", ""),
]


def is_bundled(store: PipelineStore, task: Task) -> bool:
    """Whether the demo checkpoint of a task is there: without it a tab could not be tried."""
    return store.sources.locate(demo_of(task)) is not None


def is_demo(key: str) -> bool:
    """Whether a model is a bundled one; a remote model, which no catalogue knows, is none."""
    return key in CATALOGUE and CATALOGUE[key].demo


def worked_off(steps: Iterator[Step | None], progress: gr.Progress | None = None) -> Iterator[None]:
    """Work off the steps of a long request, telling how far it is; None is a sign of life.

    A handler yields after each: there Gradio ends it when its visitor has stopped it or left.
    """
    for step in steps:
        if progress is not None and step is not None:
            progress((step.done, step.total), unit=step.unit)
        yield


@dataclass(frozen=True)
class ModelPicker:
    """The model dropdown of a tab with the line under it.

    Attributes:
        dropdown: its value is a catalogue key.
        hint: size, place and licence of the chosen model.
    """

    dropdown: gr.Dropdown
    hint: gr.Markdown


def model_picker(task: Task, label: str = "Model") -> ModelPicker:
    """Lay out a model dropdown; what it starts with is decided when the page is opened."""
    choices = [(spec.title, spec.key) for spec in MODELS if spec.task == task]
    start = choices[-1][1]
    dropdown = gr.Dropdown(choices, value=start, label=label, elem_classes="model-picker")
    hint = gr.Markdown(elem_classes="model-hint")
    return ModelPicker(dropdown, hint)


def wire_model_picker(
    store: PipelineStore, task: Task, picker: ModelPicker, page: gr.Blocks
) -> None:
    """Offer the remote models too, choose when the page opens, and keep the hint true to it."""
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
    """Return what a person should know before choosing a model: size, place, licence."""
    if spec.demo:
        videos = spec.task in ("video-text", "video-chat")
        known = "drawn videos of moving" if videos else "drawings of coloured"
        return say(
            "Comes with SeeSay and needs no network. Knows {shapes} shapes only, in English words.",
            shapes=Message(known),
        )
    if spec.remote is not None:
        if spec.task == "video-chat":
            return say(
                "Runs elsewhere: your video and your words are sent to {host}.",
                host=spec.remote.host,
            )
        return say(
            "Runs elsewhere: your pictures and your words are sent to {host}.",
            host=spec.remote.host,
        )
    on_disk = store.sources.locate(spec) is not None
    where = (
        Message("on this machine")
        if on_disk
        else Message("{size:.1f} GB, downloaded on first use", size=spec.download_gb)
    )
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


def browser_secret(page: gr.Blocks, name: str) -> gr.BrowserState:
    """Lay out a secret of the visitor's browser, by which only it finds again what is its own."""
    owner = gr.BrowserState("", storage_key=name, secret=name)

    def keep(secret: Any) -> str:
        return secret if isinstance(secret, str) and secret else secrets.token_urlsafe(24)

    page.load(keep, owner, owner, **PAGE_EVENT)
    return owner


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


@dataclass(frozen=True)
class ExampleStrip:
    """Clickable examples of a tab.

    Attributes:
        strips: the set for the demo model, the set for real ones, and where there are any the set
            for real ones that are asked in Chinese; one of them is shown.
        rows: for each strip, the values that a click on an entry gives to the inputs.
    """

    strips: tuple[gr.Dataset, ...]
    rows: tuple[Sequence[Sequence[Any]], ...]

    def shown_for(self, key: str) -> int:
        """Return which strip suits a model, in the language that it is asked in."""
        if is_demo(key):
            return 0
        return 2 if len(self.strips) > 2 and asked_in_chinese(key) else 1


def asked_in_chinese(key: str) -> bool:
    """Whether a model reads Chinese, and nothing else or the visitor's browser asks for it."""
    languages = CATALOGUE[key].languages if key in CATALOGUE else ()
    return languages == ("zh",) or ("zh" in languages and language() == "zh")


def example_strip(
    shown: Callable[[], Any],
    demo: Sequence[Sequence[Any]],
    real: Sequence[Sequence[Any]],
    chinese: Sequence[Sequence[Any]] = (),
) -> ExampleStrip:
    """Lay out strips of examples, of which the one that suits the chosen model is shown.

    Args:
        shown: makes the component that displays the first value of a row.
        demo: rows for the demo model; the first value is displayed, the others are filled in.
        real: likewise for real models.
        chinese: likewise for real models that are asked in Chinese; as `real` where empty.
    """
    sets = (demo, real, chinese) if chinese else (demo, real)
    strips = tuple(
        gr.Dataset(
            components=[shown()],
            samples=[[row[0]] for row in rows],
            type="index",
            label="Try one of these",
            visible=index == 0 and bool(rows),
            samples_per_page=20,
            layout="gallery",
        )
        for index, rows in enumerate(sets)
    )
    return ExampleStrip(strips, sets)


def wire_example_strip(
    strip: ExampleStrip, inputs: list[Any], dropdown: gr.Dropdown, then: Callable[[Any], Any]
) -> None:
    """Fill the inputs when an example is clicked, then run; show the strip that suits the model.

    Args:
        strip: the examples; of each row the first value is shown and all fill `inputs`.
        inputs: components, one for each value of a row.
        dropdown: the model picker.
        then: given the event of the click, adds what happens next.
    """
    for dataset, rows in zip(strip.strips, strip.rows, strict=True):

        def fill(index: int, rows: Sequence[Sequence[Any]] = rows) -> Any:
            values = list(rows[index])
            return values[0] if len(values) == 1 else values

        then(dataset.click(fill, dataset, inputs, **PAGE_EVENT))

    def choose(key: str) -> list[Any]:
        shown = strip.shown_for(key)
        rows = enumerate(strip.rows)
        return [gr.update(visible=index == shown and bool(row)) for index, row in rows]

    dropdown.change(choose, dropdown, list(strip.strips), **PAGE_EVENT)


ASSETS = Path(__file__).parents[2] / "assets"

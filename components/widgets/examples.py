"""Examples: drawn scenes for the demo model, gradio's own photos for the real ones.

The words of drawn scenes are English, which is all that the demo models read.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.media import get_image, get_video

from components.widgets.model_picker import asked_in_chinese, is_demo
from components.widgets.queues import PAGE_EVENT

ASSETS = Path(__file__).parents[2] / "assets"

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class ExampleStrip:
    """Clickable examples of a tab, of which one set is shown.

    The sets are those for the demo model, for real ones, and where there are any for real ones
    that are asked in Chinese.
    """

    strips: tuple[gr.Dataset, ...]
    rows: tuple[Rows, ...]  # for each strip, the values that a click gives to the inputs

    def shown_for(self, key: str) -> int:
        """Return which strip suits a model, in the language that it is asked in."""
        if is_demo(key):
            return 0
        return 2 if len(self.strips) > 2 and asked_in_chinese(key) else 1


def example_strip(
    shown: Callable[[], Any], demo: Rows, real: Rows, chinese: Rows = ()
) -> ExampleStrip:
    """Lay out strips of examples, of which the one that suits the chosen model is shown.

    `shown` makes the component that displays the first value of a row. Without rows in Chinese,
    models that are asked in it have those of `real`.
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


def wire_example_strip(strip: ExampleStrip, inputs: list[Any], dropdown: gr.Dropdown) -> list[Any]:
    """Show the strip that suits the model of the dropdown; a click fills an input with each value.

    Returns the events that fill the inputs.
    """
    filled = []
    for dataset, rows in zip(strip.strips, strip.rows, strict=True):

        def fill(index: int, rows: Rows = rows) -> Any:
            values = list(rows[index])
            return values[0] if len(values) == 1 else values

        filled.append(dataset.click(fill, dataset, inputs, **PAGE_EVENT))

    def choose(key: str) -> list[Any]:
        shown = strip.shown_for(key)
        rows = enumerate(strip.rows)
        return [gr.update(visible=index == shown and bool(row)) for index, row in rows]

    dropdown.change(choose, dropdown, list(strip.strips), **PAGE_EVENT)
    return filled


#: Photos and videos that come with gradio.
PHOTOS = [get_image(name) for name in ("cheetah1.jpg", "lion.jpg", "bus.png", "tower.jpg")]
WORLD, COUNTDOWN = get_video("world.mp4"), get_video("a.mp4")

#: Labels of the photos, and for models that are asked in Chinese.
LABELS = (
    "cheetah\nleopard\nhouse cat\nlion\ndog",
    "lion\ntiger\nhorse\nsavanna\ncity street",
    "bus\ntrain\ntruck\nbicycle\nbridge",
    "tower\nlighthouse\nchurch\nskyscraper\nbridge",
)
CHINESE_LABELS = (
    "猎豹\n豹子\n家猫\n狮子\n狗",
    "狮子\n老虎\n马\n草原\n城市街道",
    "公交车\n火车\n卡车\n自行车\n桥",
    "塔\n灯塔\n教堂\n摩天大楼\n桥",
)

#: Query and texts of the photos of `similarity_examples`, likewise.
CHINESE_QUERIES = (
    ("野外的大型猫科动物", "一只猎豹\n路上的公交车\n一座古老的塔"),
    ("人们乘坐的交通工具", "一头狮子\n一列火车\n一辆自行车"),
)

#: Questions about the videos of `video_chat_examples`, likewise.
CHINESE_QUESTIONS = ("从头到尾描述看到了什么。", "出现了哪些文字，分别在什么时候？")


def _entries(name: str) -> list[dict[str, Any]]:
    """Return the entries of a file of `assets/examples` with absolute paths."""
    folder = ASSETS / "examples"
    entries = json.loads((folder / name).read_text(encoding="utf-8"))
    return [{**entry, "path": str(folder / entry["file"])} for entry in entries]


def classify_examples() -> tuple[Rows, Rows, Rows]:
    """Return (drawn, photos, photos in Chinese): rows of image and labels."""
    drawn = [[entry["path"], "\n".join(entry["labels"])] for entry in _entries("examples.json")]
    photos, chinese = (
        [[photo, said] for photo, said in zip(PHOTOS, labels, strict=True)]
        for labels in (LABELS, CHINESE_LABELS)
    )
    return drawn, photos, chinese


def similarity_examples() -> tuple[Rows, Rows, Rows]:
    """Return (drawn, photos, photos in Chinese): rows of query, candidate texts and images."""
    drawn = _entries("examples.json")
    pictures = [entry["path"] for entry in drawn]
    truths = [entry["captions"][0] for entry in drawn]
    demo = [
        [
            truths[index],
            "\n".join(truths[(index + step) % len(truths)] for step in (1, 2, 3)),
            pictures[:8],
        ]
        for index in (0, 1, 3)
    ]
    real = [
        ["a big cat in the wild", "a cheetah\na bus on the road\nan old tower", PHOTOS],
        ["something people travel in", "a lion\na train\na bicycle", PHOTOS],
    ]
    chinese = [[query, texts, PHOTOS] for query, texts in CHINESE_QUERIES]
    return demo, real, chinese


def describe_examples() -> tuple[Rows, Rows]:
    """Return (drawn, photos): rows of an image."""
    drawn, photos = batch_examples()
    return [[path] for path in drawn], [[path] for path in photos]


def batch_examples() -> tuple[list[str], list[str]]:
    """Return (drawn, photos): images to caption."""
    return [entry["path"] for entry in _entries("examples.json")], PHOTOS


def drawn_videos() -> list[dict[str, Any]]:
    """Return drawn videos: "path", and "texts", of which some fit, or a "query" that happens."""
    return _entries("videos.json")


def match_examples() -> tuple[Rows, Rows]:
    """Return (drawn, filmed): rows of video and texts."""
    drawn = [[e["path"], "\n".join(e["texts"])] for e in drawn_videos() if e["texts"]]
    filmed = [
        [
            WORLD,
            "the earth turns at night, seen from space\nthe moon rises over a lake\n"
            "a ball rolls over a table\nfish swim in an aquarium",
        ],
        [
            COUNTDOWN,
            "the words thanks for watching appear\na counter runs down to zero\n"
            "a person waves goodbye\na map is drawn",
        ],
    ]
    return drawn, filmed


def moments_examples() -> tuple[Rows, Rows]:
    """Return (drawn, filmed): rows of video and query."""
    drawn = [[e["path"], e["query"]] for e in drawn_videos() if e["query"]]
    filmed = [
        [COUNTDOWN, "the words thanks for watching"],
        [WORLD, "the lights of North America at night"],
    ]
    return drawn, filmed


def search_examples() -> tuple[tuple[list[str], str], tuple[list[str], str]]:
    """Return (drawn, filmed): images and videos to search in, and a query."""
    pictures, photos = batch_examples()
    drawn = [entry["path"] for entry in drawn_videos()]
    filmed = [*photos, WORLD, COUNTDOWN]
    return ([*pictures, *drawn], "a red circle"), (filmed, "a big cat in the wild")


def chat_videos() -> list[dict[str, Any]]:
    """Return drawn videos: "path", what each "shows", and "questions" with the true answers."""
    return _entries("chat_videos.json")


def video_chat_examples() -> tuple[Rows, Rows, Rows]:
    """Return (drawn, filmed, filmed in Chinese): rows of a video and a first question."""
    drawn = [[entry["path"], entry["questions"][0]["question"]] for entry in chat_videos()]
    filmed = [
        [WORLD, "Describe what is seen from beginning to end."],
        [COUNTDOWN, "Which words appear, and when?"],
    ]
    chinese = [[row[0], said] for row, said in zip(filmed, CHINESE_QUESTIONS, strict=True)]
    return drawn, filmed, chinese

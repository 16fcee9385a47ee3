"""Examples: drawn scenes for the demo model, gradio's own photos for the real ones."""

import json
from collections.abc import Sequence
from typing import Any

from gradio.media import get_image, get_video

from components.common import ASSETS

Rows = Sequence[Sequence[Any]]


def drawn_examples() -> list[dict[str, Any]]:
    """Return the entries of `assets/examples/examples.json` with absolute paths."""
    folder = ASSETS / "examples"
    entries = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    return [{**entry, "path": str(folder / entry["file"])} for entry in entries]


def classify_examples() -> tuple[Rows, Rows]:
    """Return (drawn, photos): rows of picture and labels."""
    drawn = [[entry["path"], "\n".join(entry["labels"])] for entry in drawn_examples()]
    photos = [
        [get_image("cheetah1.jpg"), "cheetah\nleopard\nhouse cat\nlion\ndog"],
        [get_image("lion.jpg"), "lion\ntiger\nhorse\nsavanna\ncity street"],
        [get_image("bus.png"), "bus\ntrain\ntruck\nbicycle\nbridge"],
        [get_image("tower.jpg"), "tower\nlighthouse\nchurch\nskyscraper\nbridge"],
    ]
    return drawn, photos


def similarity_examples() -> tuple[Rows, Rows]:
    """Return (drawn, photos): rows of query text, candidate texts and candidate images."""
    drawn = drawn_examples()
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
    photos = [get_image(n) for n in ("cheetah1.jpg", "lion.jpg", "bus.png", "tower.jpg")]
    real = [
        ["a big cat in the wild", "a cheetah\na bus on the road\nan old tower", photos],
        ["something people travel in", "a lion\na train\na bicycle", photos],
    ]
    return demo, real


def describe_examples() -> tuple[Rows, Rows]:
    """Return (drawn, photos): rows of a picture."""
    drawn = [[entry["path"]] for entry in drawn_examples()]
    photos = [[get_image(n)] for n in ("cheetah1.jpg", "lion.jpg", "bus.png", "tower.jpg")]
    return drawn, photos


def batch_examples() -> tuple[list[str], list[str]]:
    """Return (drawn, photos): pictures to caption."""
    drawn, photos = describe_examples()
    return [row[0] for row in drawn], [row[0] for row in photos]


def drawn_videos() -> list[dict[str, Any]]:
    """Return the entries of `assets/examples/videos.json` with absolute paths; none without it.

    Each has "file", and "texts", of which some fit, or a "query" that happens somewhere in it.
    """
    folder = ASSETS / "examples"
    if not (folder / "videos.json").is_file():
        return []
    entries = json.loads((folder / "videos.json").read_text(encoding="utf-8"))
    return [{**entry, "path": str(folder / entry["file"])} for entry in entries]


def match_examples() -> tuple[Rows, Rows]:
    """Return (drawn, filmed): rows of video and texts."""
    drawn = [[e["path"], "\n".join(e["texts"])] for e in drawn_videos() if e["texts"]]
    filmed = [
        [
            get_video("world.mp4"),
            "the earth turns at night, seen from space\nthe moon rises over a lake\n"
            "a ball rolls over a table\nfish swim in an aquarium",
        ],
        [
            get_video("a.mp4"),
            "the words thanks for watching appear\na counter runs down to zero\n"
            "a person waves goodbye\na map is drawn",
        ],
    ]
    return drawn, filmed


def moments_examples() -> tuple[Rows, Rows]:
    """Return (drawn, filmed): rows of video and query."""
    drawn = [[e["path"], e["query"]] for e in drawn_videos() if e["query"]]
    filmed = [
        [get_video("a.mp4"), "the words thanks for watching"],
        [get_video("world.mp4"), "the lights of North America at night"],
    ]
    return drawn, filmed


def search_examples() -> tuple[tuple[list[str], str], tuple[list[str], str]]:
    """Return (drawn, filmed): pictures and videos to search in, and what to look for."""
    pictures, photos = batch_examples()
    drawn = [entry["path"] for entry in drawn_videos()]
    filmed = [get_video("world.mp4"), get_video("a.mp4")]
    return ([*pictures, *drawn], "a red circle"), ([*photos, *filmed], "a big cat in the wild")


def chat_videos() -> list[dict[str, Any]]:
    """Return the entries of `assets/examples/chat_videos.json` with absolute paths.

    Each has "file", what it "shows", and "questions": a conversation with the true answers.
    """
    folder = ASSETS / "examples"
    entries = json.loads((folder / "chat_videos.json").read_text(encoding="utf-8"))
    return [{**entry, "path": str(folder / entry["file"])} for entry in entries]


def video_chat_examples() -> tuple[Rows, Rows]:
    """Return (drawn, filmed): rows of a video and a first question."""
    drawn = [[entry["path"], entry["questions"][0]["question"]] for entry in chat_videos()]
    filmed = [
        [get_video("world.mp4"), "Describe what is seen from beginning to end."],
        [get_video("a.mp4"), "Which words appear, and when?"],
    ]
    return drawn, filmed

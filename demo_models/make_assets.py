"""Make the example files of the app: `python -m demo_models.make_assets`.

`examples.toml` says what they show: images with labels, clips and stories with texts and questions,
and a zip of folders for the Evaluate tab.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.language.motion_statements import View, judge_claim, view_of
from demo_models.language.motion_texts import event_claim, false_claim
from demo_models.language.statement_wording import NUMBER_WORDS, caption
from demo_models.language.video_facts import Facts, facts_of
from demo_models.world.drawings import make_drawing
from demo_models.world.motion import Motion, seen_events
from demo_models.world.motion_sampling import MotionOptions, sample_motion, sample_story
from demo_models.world.scenes import Scene, SceneOptions, render, sample_page, sample_scene
from demo_models.world.video_files import FileFormat, write_motion
from demo_models.world.vocabulary import ALL_PAIRS, BACKGROUNDS, HELD_OUT_PAIRS

SEED, ZIP_SEED = 23, 31
IMAGE_PX, MAX_BYTES, NUM_LABELS = 384, 40_000, 6
SECONDS_PER_CLIP = 4.0
NUM_TEXTS = 5
FOLDER_IMAGES, FOLDER_IMAGE_PX = 12, 72
SMALLEST_RADIUS = {1: 0.26, 2: 0.17, 3: 0.13, 4: 0.11}
"""By number of objects, in image widths."""

Rng = np.random.Generator
Pair = tuple[str, str]
Entry = dict[str, Any]


@dataclass(frozen=True)
class ImageExample:
    """An entry `image` of `examples.toml`."""

    name: str
    pairs: tuple[Pair, ...]
    background: str = "white"
    style: str = "plain"
    technique: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoExample:
    """An entry `video` of `examples.toml`."""

    name: str
    pairs: tuple[Pair, ...]
    kinds: tuple[str, ...]
    background: str
    find: str = ""
    questions: tuple[tuple[str, str], ...] = ()
    questions_only: bool = False

    @property
    def file(self) -> str:
        """Return the file's name."""
        return f"{self.name}.mp4"


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


def _entries(name: str) -> list[Entry]:
    return [{key: _frozen(value) for key, value in entry.items()} for entry in EXAMPLES[name]]


EXAMPLES = tomllib.loads(Path(__file__).with_name("examples.toml").read_text("utf-8"))
IMAGES = tuple(ImageExample(**entry) for entry in _entries("image"))
VIDEOS = tuple(VideoExample(**entry) for entry in _entries("video"))
FOLDERS: dict[str, tuple[str, list[str]]] = EXAMPLES["folders"]


def _matching_scene(rng: Rng, example: ImageExample) -> Scene:
    """Sample until a clear scene shows exactly the pairs of an example on its background."""
    shares = tuple(float(count == len(example.pairs)) for count in (1, 2, 3, 4))
    pairs = tuple(dict.fromkeys(example.pairs))
    options = SceneOptions(pairs=pairs, count_shares=shares, hollow_share=0.0)
    while True:
        scene = sample_scene(rng, options)
        found = sorted((item.colour, item.shape) for item in scene.objects)
        fits = (scene.background, scene.style) == (example.background, example.style)
        smallest = min(item.radius for item in scene.objects)
        large = smallest > SMALLEST_RADIUS[len(example.pairs)]
        undistorted = max(max(item.stretch) for item in scene.objects) < 1.09
        steady = max(max(map(abs, item.waves[:3])) for item in scene.objects) < 0.03
        clear = large and undistorted and steady and scene.smooth
        if found == sorted(example.pairs) and fits and clear:
            return scene


def _shuffled(rng: Rng, values: dict[str, None]) -> list[str]:
    listed = list(values)
    return [listed[index] for index in rng.permutation(len(listed))]


def _labels(rng: Rng, example: ImageExample, right: list[str]) -> list[str]:
    """Return the true labels and false ones, shuffled."""
    labels = dict.fromkeys([*right, *example.labels])
    while len(labels) < NUM_LABELS:
        colour, shape = ALL_PAIRS[int(rng.integers(len(ALL_PAIRS)))]
        labels[f"{colour} {shape}"] = None
    return _shuffled(rng, labels)


def _fitted(image: Image.Image) -> Image.Image:
    """Return a drawing in the size of examples, with its proportions."""
    factor = IMAGE_PX / max(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_example(seed: int, example: ImageExample) -> tuple[Image.Image, Entry]:
    """Return an image and its entry for `examples.json`."""
    rng = evaluation_rng(seed, f"example {example.name}")
    right = [f"{colour} {shape}" for colour, shape in dict.fromkeys(example.pairs)]
    if example.technique:
        image = _fitted(make_drawing(rng, example.technique, example.pairs[0]).image)
        captions = [f"a photo of a {right[0]}", f"a {right[0]} on a white background"]
    else:
        scene = _matching_scene(rng, example)
        image = render(scene, IMAGE_PX)
        captions = [caption(scene).text, caption(scene, with_background=True).text]
    other = next(name for name in BACKGROUNDS if name != example.background)
    return image, {
        "file": f"{example.name}.png",
        "labels": _labels(rng, example, right),
        "true_labels": right,
        "captions": captions,
        "false_captions": [f"a {other} background"],
        "never_seen_pair": any(pair in HELD_OUT_PAIRS for pair in example.pairs),
        "paint": example.technique,
        "seed": seed,
    }


def save_small(image: Image.Image, path: Path) -> None:
    """Save as PNG; with a palette of fewer colours until the file is small enough."""
    image.save(path, optimize=True)
    for colours in (256, 128, 64, 32):
        if path.stat().st_size <= MAX_BYTES:
            return
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def _page(rng: Rng, background: str) -> Scene:
    while True:
        page = sample_page(rng)
        if page.background == background and page.style in ("plain", "gradient") and page.smooth:
            return page


def _suits(motion: Motion, example: VideoExample) -> bool:
    names = sorted((mover.item.colour, mover.item.shape) for mover in motion.movers)
    undistorted = all(max(mover.item.stretch) < 1.1 for mover in motion.movers)
    return names == sorted(example.pairs) and undistorted


def find_motion(rng: Rng, example: VideoExample) -> Motion:
    """Sample until a clip or a story is as an example says."""
    num = len(example.kinds)
    options = MotionOptions(
        pairs=example.pairs,
        count_shares=tuple(float(count == len(example.pairs)) for count in (1, 2, 3)),
        event_shares=tuple(float(count == num) for count in range(num + 1)),
        plan=example.kinds,
        page=_page(rng, example.background),
    )
    while True:
        if example.find:
            motion = sample_story(rng, num, options, (0.7, 1.0), (0.4, 0.8))
        else:
            motion = sample_motion(rng, options)
        if _suits(motion, example):
            return motion


def _texts(rng: Rng, view: View) -> tuple[list[str], list[str]]:
    """Return texts, shuffled, and those of them that are true."""
    claims = [event_claim(view, number) for number in range(len(view.events))]
    true_ones = [claim.text for claim in claims]
    texts = dict.fromkeys(true_ones)
    while len(texts) < NUM_TEXTS:
        source = claims[int(rng.integers(len(claims)))]
        false = false_claim(rng, view, source, canonical=True)
        if false is not None:
            texts[false.text] = None
    return _shuffled(rng, texts), true_ones


def match_entry(seed: int, rng: Rng, example: VideoExample, motion: Motion) -> Entry:
    """Return the entry of a video for `videos.json`: texts to match, or a moment to find."""
    entry: Entry = {"file": example.file, "seed": seed, "texts": [], "query": ""}
    view = view_of(motion)
    if not example.find:
        entry["texts"], entry["true_texts"] = _texts(rng, view)
        return entry
    number = example.kinds.index(example.find)
    claim = event_claim(view, number)
    assert [judge_claim(claim, view), example.kinds.count(example.find)] == [True, 1]
    event = seen_events(motion)[number][1]
    entry["query"] = claim.text
    entry["truth_s"] = [round(t * SECONDS_PER_CLIP, 2) for t in (event.start, event.end)]
    return entry


def true_answer(facts: Facts, wanted: str) -> str:
    """Return an answer from the facts: "colour of star", "count", or what is wanted itself."""
    what, _, name = wanted.partition(" of ")
    if what == "count":
        return NUMBER_WORDS[len(facts.actors)]
    if what == "background":
        return facts.background
    if not name:
        return wanted
    index = next(i for i, a in enumerate(facts.actors) if name in (a.shape, a.colour))
    actor = facts.actors[index]
    if what == "action":
        return facts.action(index)
    return {"colour": actor.colour, "shape": actor.shape, "direction": actor.direction or ""}[what]


def question_entry(seed: int, example: VideoExample, motion: Motion) -> Entry:
    """Return the entry of a clip for `chat_videos.json`."""
    facts = facts_of(motion)
    questions = [
        {"question": question, "answer": true_answer(facts, wanted)}
        for question, wanted in example.questions
    ]
    shows = facts.description()
    return {"file": example.file, "seed": seed, "shows": shows, "questions": questions}


def make_zip(seed: int, num: int = FOLDER_IMAGES, size: int = FOLDER_IMAGE_PX) -> bytes:
    """Return a zip of folders of drawn images, the same bytes for the same arguments."""
    rng = evaluation_rng(seed, "example folders")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # images are compressed already
        for folder, (shape, colours) in FOLDERS.items():
            pairs = tuple(p for p in ALL_PAIRS if p[1] == shape and p[0] in colours)
            options = SceneOptions(pairs=pairs, count_shares=(1.0, 0.0, 0.0, 0.0))
            for number in range(1, num + 1):
                image = io.BytesIO()
                render(sample_scene(rng, options), size).save(image, "PNG", optimize=True)
                name = f"toy_shop/{folder}/{number:02}.png"
                archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), image.getvalue())
    return buffer.getvalue()


def make_images(out: Path) -> None:
    """Write the example images and `examples.json`."""
    entries = []
    for example in IMAGES:
        image, entry = draw_example(SEED, example)
        save_small(image, out / f"{example.name}.png")
        entries.append(entry)
    _write_json(out / "examples.json", entries)


def make_videos(out: Path) -> None:
    """Write the example videos, `videos.json` and `chat_videos.json`."""
    matches, chats = [], []
    for example in VIDEOS:
        rng = evaluation_rng(SEED, f"example video {example.name}")
        motion = find_motion(rng, example)
        size = (320, 240) if example.questions_only else (256, 256)
        form = FileFormat(*size, 12, motion.duration * SECONDS_PER_CLIP, 26)
        write_motion(out / example.file, motion, form)
        if not example.questions_only:
            matches.append(match_entry(SEED, rng, example, motion))
        if example.questions:
            chats.append(question_entry(SEED, example, motion))
    _write_json(out / "videos.json", matches)
    _write_json(out / "chat_videos.json", chats)


def _write_json(path: Path, entries: list[Entry]) -> None:
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/examples"))
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    make_images(out)
    make_videos(out)
    (out / "toy-shop.zip").write_bytes(make_zip(ZIP_SEED))


if __name__ == "__main__":
    main(sys.argv[1:])

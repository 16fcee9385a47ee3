"""Draws the example pictures of the app: `python -m demo_models.make_examples`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.language.statement_wording import caption
from demo_models.world.drawings import draw_picture
from demo_models.world.scenes import Scene, SceneOptions, render, sample_scene
from demo_models.world.vocabulary import ALL_PAIRS, BACKGROUNDS, HELD_OUT_PAIRS

EXAMPLE_PX = 384
MAX_BYTES = 40_000
NUM_LABELS = 6


@dataclass(frozen=True)
class Wish:
    """What an example should show; `technique` makes it a paint drawing."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    background: str = "white"
    style: str = "plain"
    technique: str | None = None
    labels: tuple[str, ...] = ()  # distractors that must be among the labels


WISHES = (
    Wish("red-circle", (("red", "circle"),), "white", labels=("blue circle", "red square")),
    Wish("yellow-star", (("yellow", "star"),), "blue", "gradient", labels=("yellow moon",)),
    Wish("never-seen-pair", (("blue", "star"),), "yellow", "checker", labels=("yellow star",)),
    Wish("two-objects", (("green", "square"), ("pink", "heart")), "white"),
    Wish("moon-and-star", (("yellow", "moon"), ("white", "star")), "blue", "blobs"),
    Wish("three-hearts", (("red", "heart"),) * 3, "pink", "stripes", labels=("red circle",)),
    Wish(
        "three-objects", (("purple", "ring"), ("orange", "triangle"), ("black", "cross")), "green",
        "gradient",
    ),
    Wish(
        "four-objects",
        (("blue", "circle"), ("red", "cross"), ("brown", "square"), ("green", "triangle")),
        "white", "checker",
    ),
    Wish("paint-tool-triangle", (("green", "triangle"),), technique="tool"),
    Wish("paint-freehand-heart", (("red", "heart"),), technique="freehand"),
    Wish("paint-freehand-ring", (("purple", "ring"),), technique="freehand"),
)  # fmt: skip


def _matching_scene(rng: np.random.Generator, wish: Wish) -> Scene:
    """Sample until a clear scene shows exactly the wished pairs on the wished background."""
    shares = tuple(float(count == len(wish.pairs)) for count in (1, 2, 3, 4))
    wanted = sorted(wish.pairs)
    while True:
        options = SceneOptions(
            pairs=tuple(dict.fromkeys(wish.pairs)), count_shares=shares, hollow_share=0.0
        )
        scene = sample_scene(rng, options)
        found = sorted((item.colour, item.shape) for item in scene.objects)
        fits = (scene.background, scene.style) == (wish.background, wish.style)
        smallest = {1: 0.26, 2: 0.17, 3: 0.13, 4: 0.11}[len(wish.pairs)]
        large = min(item.radius for item in scene.objects) > smallest
        undistorted = max(max(item.stretch) for item in scene.objects) < 1.09
        steady = max(max(map(abs, item.waves[:3])) for item in scene.objects) < 0.03
        if found == wanted and fits and large and undistorted and steady and scene.smooth:
            return scene


def _labels(rng: np.random.Generator, wish: Wish) -> list[str]:
    """Return the true labels and distractors, shuffled."""
    right = [f"{colour} {shape}" for colour, shape in dict.fromkeys(wish.pairs)]
    labels = dict.fromkeys([*right, *wish.labels])
    while len(labels) < NUM_LABELS:
        colour, shape = ALL_PAIRS[int(rng.integers(len(ALL_PAIRS)))]
        labels[f"{colour} {shape}"] = None
    listed = list(labels)
    return [listed[index] for index in rng.permutation(len(listed))]


def _page(image: Image.Image) -> Image.Image:
    """Fit a drawing into the example size, keeping its proportions."""
    factor = EXAMPLE_PX / max(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_example(seed: int, wish: Wish) -> tuple[Image.Image, dict[str, object]]:
    """Return one example picture and its entry for `examples.json`."""
    rng = evaluation_rng(seed, f"example {wish.name}")
    right = [f"{colour} {shape}" for colour, shape in dict.fromkeys(wish.pairs)]
    if wish.technique:
        image = _page(draw_picture(rng, wish.technique, wish.pairs[0]).image)
        captions = [f"a photo of a {right[0]}", f"a {right[0]} on a white background"]
    else:
        scene = _matching_scene(rng, wish)
        image = render(scene, EXAMPLE_PX)
        captions = [caption(scene).text, caption(scene, with_background=True).text]
    others = [f"a {name} background" for name in BACKGROUNDS if name != wish.background]
    entry: dict[str, object] = {
        "file": f"{wish.name}.png",
        "labels": _labels(rng, wish),
        "true_labels": right,
        "captions": captions,
        "false_captions": [others[0]],
        "never_seen_pair": any(pair in HELD_OUT_PAIRS for pair in wish.pairs),
        "paint": wish.technique or "",
        "seed": seed,
    }
    return image, entry


def save_small(image: Image.Image, path: Path) -> None:
    """Save as PNG; with a palette of fewer colours until the file is small enough."""
    image.save(path, optimize=True)
    for colours in (256, 128, 64, 32):
        if path.stat().st_size <= MAX_BYTES:
            return
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/examples"))
    parser.add_argument("--seed", type=int, default=23)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    entries = []
    for wish in WISHES:
        image, entry = draw_example(chosen.seed, wish)
        save_small(image, chosen.out / f"{wish.name}.png")
        entries.append(entry)
    (chosen.out / "examples.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

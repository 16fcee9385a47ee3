"""Draws the example zip of the Evaluate tab: `python -m demo_models.make_example_folders`.

Some of its folders have names that the demo model has never read, so that it confuses them by
their names and a probe tells them apart all the same.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.world.scenes import SceneOptions, render, sample_scene
from demo_models.world.vocabulary import ALL_PAIRS

#: Folder -> what is drawn for it: a shape, and the colours that it may have.
FOLDERS = {
    "balloon": ("circle", ("red", "blue", "pink", "purple")),
    "cross": ("cross", ("red", "green", "black")),
    "full_stop": ("circle", ("black",)),
    "heart": ("heart", ("red", "pink", "purple")),
    "night": ("moon", ("yellow", "white", "orange")),
    "present": ("square", ("red", "blue", "green", "purple", "pink")),
    "star": ("star", ("orange", "red", "pink", "yellow")),
    "tent": ("triangle", ("green", "brown", "orange", "blue")),
}
NUM_EACH = 12
PICTURE_PX = 72


def make_zip(seed: int, num_each: int = NUM_EACH, size: int = PICTURE_PX) -> bytes:
    """Return a zip of folders of drawn pictures, the same bytes for the same arguments."""
    rng = evaluation_rng(seed, "example folders")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # pictures are packed already
        for folder, (shape, colours) in FOLDERS.items():
            pairs = tuple(p for p in ALL_PAIRS if p[1] == shape and p[0] in colours)
            options = SceneOptions(pairs=pairs, count_shares=(1.0, 0.0, 0.0, 0.0))
            for number in range(1, num_each + 1):
                picture = io.BytesIO()
                render(sample_scene(rng, options), size).save(picture, "PNG", optimize=True)
                member = zipfile.ZipInfo(
                    f"toy_shop/{folder}/{number:02}.png", (2026, 1, 1, 0, 0, 0)
                )
                archive.writestr(member, picture.getvalue())
    return buffer.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/examples/toy-shop.zip"))
    parser.add_argument("--seed", type=int, default=31)
    chosen = parser.parse_args(arguments)
    chosen.out.write_bytes(make_zip(chosen.seed))


if __name__ == "__main__":
    main(sys.argv[1:])

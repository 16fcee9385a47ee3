"""The arguments of `python -m pipelines.caption_folder`. Torch-free."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from pipelines.batch.export import FORMATS
from pipelines.core.options import MAX_TEMPERATURE


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.caption_folder",
        description="Caption a folder, or a zip, of images. Start it again to take up a run.",
        epilog="The flags of the app are taken as well, as --device=cpu or --models-dir=FOLDER.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", type=Path, metavar="FOLDER", help="a folder of images, or a .zip")
    add("--output", type=Path, help="folder of the results; default: FOLDER, or the zip's folder")
    add("--model", default="", help="key of the model; default: what the app starts with")
    add("--prompt", default="", help="what every caption continues or answers")
    add(
        "--existing",
        choices=("skip", "overwrite", "append", "prepend"),
        default="skip",
        help="what becomes of a .txt beside an image that has text in it; default: skip the image, "
        "unless the .txt holds the caption of an earlier run with other settings",
    )
    add("--separator", default=", ", help="between the texts of append and prepend")
    add(
        "--formats",
        type=_formats,
        help=f"any of {','.join(FORMATS)}; default: all but zip, and for a zip: zip",
    )
    add("--no-recursive", action="store_true", help="leave out the folders within FOLDER")
    add("--batch-size", type=_at_least_1, default=8, help="pictures at once; default 8")
    add("--workers", type=_at_least_1, default=2, help="threads that open pictures; default 2")
    add("--max-new-tokens", type=_at_least_1, default=40, help="length of a caption; default 40")
    add("--num-beams", type=_at_least_1, default=1, help="beams of a search; default 1, greedy")
    add(
        "--temperature",
        type=_within(0, MAX_TEMPERATURE),
        default=0.0,
        help="0 (default): always the same; up to 5",
    )
    add("--top-p", type=_within(0, 1), default=1.0, help="share of likely words, 0..1; default 1")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on the machines of a Ray cluster, which all see FOLDER at the same place; "
        "needs requirements-ray.txt",
    )
    add(
        "--ray-address",
        default=os.environ.get("RAY_ADDRESS", ""),
        metavar="HOST:PORT",
        help="the cluster; auto for the one of this machine; default: RAY_ADDRESS, or none, "
        "which begins one on this machine alone",
    )
    add("--seed", type=int, default=0, help="of the chance at a temperature above 0")
    return parser


def _formats(text: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"must be among {', '.join(FORMATS)} but got {', '.join(unknown)}"
        )
    return chosen


def _at_least_1(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 but got {value}")
    return value


def _within(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be within {least}..{most} but got {value}")
        return value

    return number

"""Train a bundled demo model: `python -m demo_models.train MODEL --out FOLDER`.

A run is fixed by its seed and its numbers of steps, never by the clock. The other models start
from the trained `demo-clip`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

from demo_models.training.checkpoints import Run

MODELS = {
    "demo-clip": "demo_models.training.clip.train",
    "demo-blip2": "demo_models.training.blip2.train",
    "demo-viclip": "demo_models.training.viclip.train",
    "demo-videochat": "demo_models.training.videochat.train",
}
"""By model: the module with its `Recipe`, the small recipe `SMOKE`, and `train`."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Run.data, help="folder of drawn data")
    parser.add_argument("--tower", type=Path, help="file that keeps the vision tower between runs")
    parser.add_argument("--start", type=Path, help="checkpoint that earlier stages left")
    parser.add_argument("--first", type=int, default=0, help="stage to go on with from there")
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    family = importlib.import_module(MODELS[chosen.model])
    recipe = family.SMOKE if chosen.smoke else family.Recipe()
    folders = Run(chosen.out, chosen.data, chosen.tower, chosen.start, chosen.first)
    chosen.out.mkdir(parents=True, exist_ok=True)
    family.train(replace(recipe, seed=chosen.seed), folders)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Measures the map of where the demo CLIP looks: does its peak lie on the named object?

`python -m demo_models.evaluate_where` writes `where.json` beside the checkpoint.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from demo_models.evaluation.held_out import pointing_cases, weights_hash
from pipelines.catalogue import DEMO_CLIP
from pipelines.clip.pipeline import ClipPipeline
from pipelines.runtime import Device
from pipelines.settings import Settings
from pipelines.sources import BUNDLE


def measure(clip: ClipPipeline, seed: int, num: int) -> dict[str, float | int]:
    """Return how often the highest patch of the map touches the named object, in percent.

    Each scene holds two or three different objects. "chance_percent" is what a patch chosen at
    random would reach. A patch touches an object that covers a quarter of it or more.
    """
    hits, chances = [], []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scene.png"
        for case in pointing_cases(seed, num):
            case.image.save(path)
            grid = np.asarray(clip.look(path, case.label, "photo").grid)
            rows, columns = grid.shape
            height, width = case.mask.shape
            blocks = case.mask.reshape(rows, height // rows, columns, width // columns)
            touched = blocks.mean(axis=(1, 3)) >= 0.25
            hits.append(bool(touched.flat[int(grid.argmax())]))
            chances.append(float(touched.mean()))
    return {
        "percent": round(100 * float(np.mean(hits)), 1),
        "chance_percent": round(100 * float(np.mean(chances)), 1),
        "n": num,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--num", type=int, default=500)
    chosen = parser.parse_args()
    device = Device("cpu", "float32", False, "evaluation")
    clip = ClipPipeline(DEMO_CLIP, BUNDLE / DEMO_CLIP.key, device, Settings(device="cpu"))
    clip.load()
    facts = {
        "script": "python -m demo_models.evaluate_where",
        "weights_sha256": weights_hash(BUNDLE / DEMO_CLIP.key),
        "seed": chosen.seed,
        **measure(clip, chosen.seed, chosen.num),
    }
    target = BUNDLE / DEMO_CLIP.key / "where.json"
    target.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

"""Captions in batches, decoding against the memory's speed, and follow-up questions.

    python benchmarks/bench_captions.py [--quick] [--vision-layers N] [--text-layers N] [--write]

BLIP-2 OPT 2.7B with random weights through SeeSay's own pipeline, in one run. Captions have
exactly 20 tokens, and 40, the app's own limit where nobody sets another. The last line is JSON;
`--write` also keeps it beside this script.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.blip2_checkpoints import REAL_LAYERS, make_blip2  # noqa: E402
from benchmarks.measuring import Row, compare, report, row  # noqa: E402
from pipelines.compute.packed_linear import PackedLinear  # noqa: E402
from pipelines.core.options import GenerationOptions  # noqa: E402
from pipelines.core.settings import Settings  # noqa: E402
from pipelines.core.spec import Task  # noqa: E402
from pipelines.models.captioning.image_inputs import FeatureCache  # noqa: E402
from pipelines.models.captioning.pipeline import CaptionPipeline  # noqa: E402
from pipelines.serving.device_queue import release_threads  # noqa: E402
from pipelines.serving.store import PipelineStore  # noqa: E402

TASK: Task = "caption"
#: Tokens of a caption, a short one and the app's own limit, and images of a batch of such.
BATCHES = {20: (4, 8, 16), GenerationOptions().max_new_tokens: (4, 8)}
OPTIONS = GenerationOptions(max_new_tokens=min(BATCHES))
_numbers = count()


def fresh_images(number: int) -> list[Image.Image]:
    """Return images of 640 x 480 that were never seen before."""
    made = []
    for _ in range(number):
        small = np.random.default_rng(next(_numbers)).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        made.append(Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC))
    return made


def batched(describer: CaptionPipeline, size: int, tokens: int, times: int) -> Row:
    """Captions of `size` images in one batch and one by one; the texts must be equal."""
    options = GenerationOptions(max_new_tokens=tokens)
    same = fresh_images(size)
    alone = [describer.caption([image], options=options)[0].text for image in same]
    describer.features = FeatureCache()
    together = [made.text for made in describer.caption(same, options=options, batch_size=size)]

    def ours() -> None:
        describer.caption(fresh_images(size), options=options, batch_size=size)

    def theirs() -> None:
        for image in fresh_images(size):
            describer.caption([image], options=options)

    what = f"captions of {tokens} tokens of {size} images in one batch / one by one"
    return row(what, *compare(ours, theirs, times), 1 / 3, texts_equal=alone == together)


def follow_up(describer: CaptionPipeline, folder: Path, times: int) -> Row:
    """A second question about an image, beside a question about an image not seen before."""
    options = replace(OPTIONS, max_new_tokens=1)
    names = iter(range(10**6))

    def saved() -> Path:
        path = folder / f"{next(names)}.png"
        fresh_images(1)[0].save(path)
        return path

    known, paths = saved(), iter([saved() for _ in range(times + 2)])
    second, first = compare(
        lambda: describer.chat(known, "what is it", None, options),
        lambda: describer.chat(next(paths), "what is it", None, options),
        times,
    )
    tower = first - second
    return {
        "what": "first token of a second question about an image / of the first question",
        "ours_s": round(second, 5), "theirs_s": round(first, 5), "value": round(second / first, 5),
        "ratio": f"1/{first / second:.1f}", "goal": "without the vision tower",
        "vision_s": round(tower, 5), "met": second < first,
    }  # fmt: skip


def decoding(describer: CaptionPipeline, times: int) -> Row:
    """Bytes of weights that a decoding step reads per second, beside what memory delivers."""
    language = describer.connector.model.language_model
    moved = sum(_weight_bytes(module) for module in language.modules())
    image = fresh_images(1)

    def wall(tokens: int) -> float:
        start = time.perf_counter()
        describer.caption(image, options=replace(OPTIONS, max_new_tokens=tokens))
        return time.perf_counter() - start

    table = torch.ones(256, 1024, 1024)
    wall(4)
    turns = []  # side by side: what others do to the memory changes by the second
    for _ in range(2 * times + 1):
        step = (wall(44) - wall(4)) / 40
        turns.append((step, moved / step / 1e9, table.numel() * 4 / _reading_s(table) / 1e9))
    step, rate, limit = sorted(turns, key=lambda turn: turn[1] / turn[2])[times]  # the median
    return {
        "what": "decoding: GB/s of weights read / the measured memory bandwidth, median of turns",
        "step_s": round(step, 5), "gb": round(moved / 1e9, 3), "gb_per_s": round(rate, 2),
        "limit_gb_per_s": round(limit, 2), "value": round(rate / limit, 3),
        "ratio": f"{rate / limit:.0%}", "goal": "≥ 80 %", "met": rate >= 0.8 * limit,
    }  # fmt: skip


def _weight_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of the weight of a layer that every step reads whole."""
    if isinstance(module, PackedLinear):
        return 2 * module.in_features * module.out_features
    if isinstance(module, torch.nn.Linear):
        return module.weight.numel() * module.weight.element_size()
    return 0


def _reading_s(table: torch.Tensor, times: int = 30) -> float:
    """Return the seconds of reading a table on all cores, over about a second of it."""
    start = time.perf_counter()
    for _ in range(times):
        table.sum()
    release_threads()  # as in the app, where no thread that lasts computes
    return (time.perf_counter() - start) / times


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two layers, to see that it runs")
    parser.add_argument("--vision-layers", type=int, default=REAL_LAYERS[0] // 3)
    parser.add_argument("--text-layers", type=int, default=REAL_LAYERS[1] // 3)
    parser.add_argument("--write", action="store_true", help="store the figures for docs/speed.md")
    args = parser.parse_args()
    layers = (2, 2) if args.quick else (args.vision_layers, args.text_layers)
    times = 1 if args.quick else 3
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_blip2(
            folder / "models" / "blip2-opt-2.7b", vision_layers=layers[0], text_layers=layers[1]
        )
        store = PipelineStore(Settings(models_dir=folder / "models", device="cpu"))
        with store.use("blip2-opt-2.7b", TASK) as describer:
            dtype = describer.device.dtype
            rows = [
                batched(describer, size, tokens, times)
                for tokens, sizes in BATCHES.items()
                for size in sizes
            ]
            rows += [decoding(describer, times), follow_up(describer, folder, times)]
    report(
        __file__, rows, args,
        f"BLIP-2 OPT 2.7B, random weights in {dtype}, {layers[0]} of {REAL_LAYERS[0]} vision and "
        f"{layers[1]} of {REAL_LAYERS[1]} language layers",
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""CLIP in SeeSay beside the stock way, in one run: `python benchmarks/bench_clip.py [--quick]`.

Every figure is a ratio of CPU time (all threads of the process), the best of several alternating
repetitions, except the last: throughput of 32 simultaneous clients against one at a time. The
last line is JSON; `--write` also stores it beside this script for the table in docs/speed.md.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gradio.media import get_image  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.clip_checkpoints import make_clip  # noqa: E402
from benchmarks.clip_clients import throughput  # noqa: E402
from benchmarks.measuring import Row, compare, cpu_seconds, report, row  # noqa: E402
from pipelines.core.settings import Settings  # noqa: E402
from pipelines.core.spec import Task  # noqa: E402
from pipelines.media.images import decode_image  # noqa: E402
from pipelines.models.clip.images import PixelRecipe  # noqa: E402
from pipelines.models.clip.texts import fill  # noqa: E402
from pipelines.serving.store import PipelineStore  # noqa: E402

TASK: Task = "image-text"
NOUNS = ("dog", "cat", "tree", "house", "car", "river", "chair", "clock", "bottle", "bird")
SIDES = ("red", "old", "small", "wooden", "broken", "shiny", "wet", "quiet", "distant", "striped")


def labels(number: int) -> list[str]:
    """Return distinct labels of one to three words."""
    made = [f"{a} {b} {n}" if a != b else f"{a} {n}" for a in SIDES for b in SIDES for n in NOUNS]
    return made[:number]


def photo_jpeg(megapixels: float) -> bytes:
    """Return a JPEG of a real photo, enlarged."""
    with Image.open(get_image("cheetah1.jpg")) as photo:
        scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
        size = (int(photo.width * scale), int(photo.height * scale))
        big = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    big.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def repeated_labels(folder: Path, work: Path, times: int) -> list[Row]:
    """100 labels, asked again: about the same image, and about a fresh one each time."""
    from transformers import pipeline

    store = _store(folder.parent, work / "cache-a")
    stock = pipeline("zero-shot-image-classification", model=str(folder), dtype=torch.float32)
    names, images = labels(100), _fresh_images(work, 4 * (times + 2))
    with store.use("clip-vit-b32", TASK) as clip:
        dtype, unseen = clip.device.dtype, iter(images)

        def theirs() -> None:
            with Image.open(images[0]) as image:
                stock(image.convert("RGB"), candidate_labels=names)

        same = compare(lambda: clip.classify(images[0], names), theirs, times)
        fresh = compare(lambda: clip.classify(next(unseen), names), theirs, times)
        found = clip.classify(images[0], names)
    store.unload_idle(0.0)
    what = f"repeated request with 100 labels, {{}}, ours in {dtype}, stock pipeline in float32"
    assert len(found.scores) == 100
    return [
        row(what.format("the same image"), *same, 1 / 25),
        row(what.format("a fresh image"), *fresh, 1 / 25),
    ]


def cold_bank(folder: Path, work: Path, number: int) -> Row:
    """80 templates x 1000 labels, nothing cached, beside padding every prompt to 77 in float32."""
    store = _store(folder.parent, work / "cache-b")
    templates = tuple(f"a {side} photo of a {{}}, {n}." for side in SIDES for n in NOUNS[:8])
    names = labels(number)
    with store.use("clip-vit-b32", TASK) as clip:
        clip.texts.vectors(["warm up"], templates)
        ours = cpu_seconds(lambda: clip.texts.vectors(names, templates))
        dtype = clip.device.dtype
    store.unload_idle(0.0)
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [fill(t, name) for name in names for t in templates]
    part = prompts[:: max(1, len(prompts) // 512)]

    @torch.inference_mode()
    def padded() -> None:
        for start in range(0, len(part), 128):
            batch = part[start : start + 128]
            inputs = tokenizer(batch, padding="max_length", max_length=77, return_tensors="pt")
            model.get_text_features(**inputs)

    padded()
    theirs = min(cpu_seconds(padded) for _ in range(2)) * len(prompts) / len(part)
    what = f"80 templates x {number} labels cold, ours in {dtype}, theirs padded to 77 in float32"
    return row(what, ours, theirs, 1 / 30, theirs_scaled_from=len(part))


def large_image(folder: Path, work: Path, times: int) -> Row:
    """One image through ViT-L/14: prepacked bfloat16 beside float32."""
    image = _fresh_images(work, 1)[0]
    runs: dict[str, Any] = {}
    vectors = {}
    for dtype in ("bfloat16", "float32"):
        store = _store(folder.parent, work / f"cache-{dtype}", dtype=dtype)
        lease = store.use("clip-vit-l14", TASK)
        clip = lease.__enter__()
        pixels = clip.pictures.recipe.pixels(clip.pictures.open(image))
        vectors[dtype] = clip.pictures._run_tower([pixels])[0]
        runs[dtype] = (clip, pixels, lease, store)

    def tower(dtype: str) -> Callable[[], Any]:
        clip, pixels, *_ = runs[dtype]
        return lambda: clip.pictures._run_tower([pixels])

    best = compare(tower("bfloat16"), tower("float32"), times)
    cosine = round(float(vectors["bfloat16"] @ vectors["float32"]), 6)
    for clip, _, lease, store in runs.values():
        del clip
        lease.__exit__(None, None, None)
        store.unload_idle(0.0)
    made = row("ViT-L/14, one image, prepacked bfloat16 / float32 (goal for AMX, cosine ≥ 0.999)",
               *best, 0.22, cosine=cosine)  # fmt: skip
    return {**made, "met": made["met"] and cosine >= 0.999}


def large_photo(folder: Path, times: int) -> Row:
    """A 12-megapixel JPEG to the model's pixels, beside the stock processor."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    recipe, data = PixelRecipe.of(processor), photo_jpeg(12.0)

    def ours() -> torch.Tensor:
        return recipe.pixels(decode_image(data, draft_px=recipe.draft_px))

    def theirs() -> torch.Tensor:
        with Image.open(io.BytesIO(data)) as image:
            made = processor(images=image.convert("RGB"), return_tensors="pt")
        return made["pixel_values"][0]  # type: ignore[no-any-return]

    spread = torch.tensor(recipe.std)[:, None, None] * 255
    levels = ((ours() - theirs()) * spread).abs()
    within = float((levels <= 2.0).float().mean())
    made = row("12-megapixel JPEG to pixels, ours / stock processor", *compare(ours, theirs, times),
               1 / 6, grey_levels_max=round(float(levels.max()), 2),
               within_2_grey_levels=round(within, 5))  # fmt: skip
    made["what"] += f", {within:.2%} of the values within 2 grey levels"
    return {**made, "met": made["met"] and within == 1.0}


def many_clients(folder: Path, work: Path, quick: bool) -> Row:
    """32 simultaneous clients beside one at a time, through the running app."""
    seconds = 4.0 if quick else 15.0
    alone, together = throughput(folder.parent, work, num_clients=32, seconds=seconds)
    return {"what": "requests per second, 32 clients at once / one at a time", "alone": alone,
            "together": together, "ratio": f"{together / alone:.2f}x", "goal": "≥ 2x",
            "value": round(together / alone, 3), "met": together >= 2 * alone}  # fmt: skip


def _store(models: Path, cache: Path, **more: Any) -> PipelineStore:
    return PipelineStore(Settings(models_dir=models, device="cpu", cache_dir=cache, **more))


def _fresh_images(work: Path, number: int) -> list[Path]:
    """Save distinct images of 640 x 480."""
    folder = work / "images"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng()
    paths = []
    for index in range(number):
        small = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        path = folder / f"{rng.integers(1 << 60)}-{index}.jpg"
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--labels", type=int, default=1000, help="labels of the cold text bank")
    parser.add_argument("--write", action="store_true", help="store the figures for docs/speed.md")
    args = parser.parse_args()
    times = 2 if args.quick else 6
    with TemporaryDirectory() as name:
        work = Path(name)
        small = make_clip(work / "models" / "clip-vit-b32", large=False)
        rows = repeated_labels(small, work, times)
        rows.append(cold_bank(small, work, 20 if args.quick else args.labels))
        rows.append(large_photo(small, times))
        rows.append(many_clients(small, work, args.quick))
        large = make_clip(work / "large" / "clip-vit-l14", large=True)
        rows.append(large_image(large, work, times))
    report(__file__, rows, args, "random weights at full size")


if __name__ == "__main__":
    main()

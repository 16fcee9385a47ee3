"""What the tests of image -> text share: tiny models, live pipelines, pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.compute.device import Device
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.core.spec import GenerativeTraits
from pipelines.models.captioner import Description, ImageToTextModel
from pipelines.models.captioning import traits
from pipelines.models.captioning.pipeline import CaptionPipeline
from tests.fakes import tiny_captioning as tiny_describe

EXACT = Device("cpu", "float32", packed=False, reason="tests")


@dataclass(frozen=True)
class Spec:
    """What a pipeline reads of a catalogue entry."""

    key: str
    generative: GenerativeTraits
    demo: bool = False
    memory_gb: float = 0.1
    revision: str = ""

    @property
    def traits(self) -> GenerativeTraits:
        return self.generative


#: Key -> traits, maker of a tiny checkpoint.
FAMILIES: dict[str, tuple[GenerativeTraits, Any]] = {
    "blip2-opt": (traits.BLIP2_OPT, tiny_describe.make_blip2_opt),
    "blip2-t5": (traits.BLIP2_T5, tiny_describe.make_blip2_t5),
    "instructblip": (traits.INSTRUCTBLIP_T5, tiny_describe.make_instructblip),
    "instructblip-vicuna": (
        replace(traits.INSTRUCTBLIP_VICUNA, context_tokens=512),
        tiny_describe.make_instructblip_vicuna,
    ),
    "blip": (traits.BLIP, tiny_describe.make_blip),
    "blip-vqa": (traits.BLIP_VQA, tiny_describe.make_blip_vqa),
    "llava": (replace(traits.LLAVA_15, context_tokens=512), tiny_describe.make_llava),
}


DEFAULTS = Settings()


def live(
    folder: Path,
    key: str,
    device: Device = EXACT,
    settings: Settings = DEFAULTS,
    **changes: Any,
) -> CaptionPipeline:
    """Return a loaded pipeline of the family `key`, its traits changed as told."""
    spec = Spec(key, replace(FAMILIES[key][0], **changes))
    pipeline = CaptionPipeline(spec, folder, device, settings)  # type: ignore[arg-type]
    pipeline.load()
    return pipeline


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: tiny tensors only wait for one another on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(root: Path, count: int = 5) -> list[Path]:
    """Save pictures of several proportions, lossless."""
    rng = np.random.default_rng(3)
    sizes = [(32, 32), (90, 41), (37, 120), (20, 11), (64, 64), (50, 50), (33, 70)]
    paths = []
    for index, (width, height) in enumerate(sizes[:count]):
        pixels = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        paths.append(root / f"{index}.png")
        image.save(paths[-1])
    return paths


#: The options where a test names none.
GREEDY = GenerationOptions()


def candidates(
    model: ImageToTextModel, image: Path, n: int, options: GenerationOptions = GREEDY
) -> list[Description]:
    return [one for one in model.iter_candidates(image, n, options) if one is not None]

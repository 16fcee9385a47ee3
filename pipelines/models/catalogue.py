"""Catalogue of all models.

A model is added with one entry here, or in the list of its family. Pickers, the tables of the
manual, the store and the tests read the same tuple.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from pipelines.core.errors import InputError
from pipelines.core.spec import ContrastiveTraits, ModelSpec, Task
from pipelines.models.captioning.checkpoints import BLIP2_OPT, BLIP_BASE, CAPTION_MODELS
from pipelines.models.viclip.checkpoints import VICLIP_B16, VICLIP_L14, VIDEO_TEXT_MODELS
from pipelines.models.videochat_flash.checkpoints import CHAT_2B_448, VIDEO_CHAT_MODELS

_clip = partial(
    ModelSpec,
    task="image-text",
    family="CLIP",
    pipeline="pipelines.models.clip.pipeline:ClipPipeline",
)

_OPENAI_CLIP = ContrastiveTraits(
    probability="softmax",
    pooling="class token",
    padding="longest",
    max_text_tokens=77,
    cleaning="openai",
    languages=("en",),
    neutral_bank="everyday",
)

DEMO_CLIP = _clip(
    key="demo-clip",
    title="Demo: drawn shapes only",
    demo=True,
    contrastive=replace(
        _OPENAI_CLIP,
        max_text_tokens=32,
        neutral_bank="shapes",
        neutral_weight=0.7,
        text_thresholds=(-0.59, 0.72),
        pair_of_texts_thresholds=(-2.55, 3.11),
        calibrated=True,
    ),
)

CLIP_B32 = _clip(
    key="clip-vit-b32",
    title="CLIP ViT-B/32",
    repo="openai/clip-vit-base-patch32",
    revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    licence="MIT",
    memory_gb=0.9,
    download_gb=0.61,
    contrastive=_OPENAI_CLIP,
)

CLIP_L14 = _clip(
    key="clip-vit-l14",
    title="CLIP ViT-L/14",
    repo="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    licence="MIT",
    memory_gb=2.1,
    download_gb=1.71,
    contrastive=_OPENAI_CLIP,
)

SIGLIP2_B16 = _clip(
    key="siglip2-b16",
    title="SigLIP 2 B/16 (many languages)",
    repo="google/siglip2-base-patch16-224",
    revision="75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    memory_gb=1.9,
    download_gb=1.54,
    contrastive=replace(
        _OPENAI_CLIP,
        probability="sigmoid",
        pooling="attention head",
        padding="max_length",
        max_text_tokens=64,
        cleaning="lower",
        languages=("en", "zh", "de", "es", "fr", "ja", "ko", "pt", "ru"),
    ),
)

CHINESE_CLIP_B16 = _clip(
    key="chinese-clip-b16",
    title="Chinese-CLIP ViT-B/16 (中文)",
    repo="OFA-Sys/chinese-clip-vit-base-patch16",
    revision="36e679e65c2a2fead755ae21162091293ad37834",
    memory_gb=1.1,
    download_gb=0.75,
    contrastive=replace(
        _OPENAI_CLIP,
        max_text_tokens=52,
        cleaning="none",
        languages=("zh",),
        neutral_bank="everyday-zh",
    ),
)

#: In order of preference: of each task the best model first, the demo last.
MODELS: tuple[ModelSpec, ...] = (
    CLIP_L14,
    CLIP_B32,
    SIGLIP2_B16,
    CHINESE_CLIP_B16,
    DEMO_CLIP,
    *CAPTION_MODELS,
    *VIDEO_TEXT_MODELS,
    *VIDEO_CHAT_MODELS,
)

#: Models for "hub", and for "auto" if the hub responds; the first that fits into memory is used.
HUB_DEFAULTS: dict[Task, tuple[ModelSpec, ...]] = {
    "image-text": (CLIP_B32,),
    "caption": (BLIP2_OPT, BLIP_BASE),
    "video-text": (VICLIP_L14, VICLIP_B16),
    "video-chat": (CHAT_2B_448,),
}

CATALOGUE = {spec.key: spec for spec in MODELS}


def keys(task: Task, models: Iterable[ModelSpec] = MODELS) -> list[str]:
    """Return the keys of the models of `task`, best first."""
    return [spec.key for spec in models if spec.task == task]


def demo_of(task: Task) -> ModelSpec:
    """Return the bundled checkpoint of `task`."""
    return next(spec for spec in MODELS if spec.task == task and spec.demo)


def find(key: str, task: Task, models: Iterable[ModelSpec] = MODELS) -> ModelSpec:
    """Return the spec of `key` for `task`.

    Raises:
        InputError: there is no such model for `task`; the message lists the possible ones.
    """
    able = [spec for spec in models if spec.task == task]
    found = next((spec for spec in able if spec.key == key), None)
    if found is None:
        choices = ", ".join(spec.key for spec in able)
        raise InputError(
            "Unknown model {given!r}. Choose one of: {choices}.",
            given=str(key)[:80],
            choices=choices,
        )
    return found

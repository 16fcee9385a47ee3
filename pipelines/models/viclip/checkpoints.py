"""Checkpoints that match videos and texts.

Memory is computed from the number of parameters in float32 and a batch of clips. The publisher's
repositories state no licence for the weights; the code they came with is Apache-2.0.
"""

from functools import partial

from pipelines.core.spec import ModelSpec, VideoTextTraits

_viclip = partial(
    ModelSpec,
    task="video-text",
    family="ViCLIP",
    pipeline="pipelines.models.viclip.pipeline:ViClipPipeline",
    video_text=VideoTextTraits(),
)

VICLIP_L14 = _viclip(
    key="viclip-l14",
    title="ViCLIP-L/14",
    repo="OpenGVLab/ViCLIP-L-14-hf",
    licence="not stated",
    revision="1652361522e1cb41c28cdfae870f690d00e7456b",
    memory_gb=2.6,
    download_gb=1.71,
)

VICLIP_B16 = _viclip(
    key="viclip-b16",
    title="ViCLIP-B/16",
    repo="OpenGVLab/ViCLIP-B-16-hf",
    licence="not stated",
    revision="8484a9cb5b1b86e43c3ded53abe7485f52d8b789",
    memory_gb=1.1,
    download_gb=0.6,
)

DEMO_VICLIP = _viclip(
    key="demo-viclip",
    title="Demo: drawn moving shapes only",
    demo=True,
    video_text=VideoTextTraits(
        neutral_bank="shapes",
        neutral_weight=0.7,
        text_thresholds=(-2.51, 5.25),
        calibrated=True,
    ),
)

#: The best one first, the demo last.
VIDEO_TEXT_MODELS = (VICLIP_L14, VICLIP_B16, DEMO_VICLIP)

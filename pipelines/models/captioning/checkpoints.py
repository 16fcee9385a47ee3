"""The checkpoints that put an image into words. Torch-free.

No revision of these repositories is established here, so they are taken at "main". Memory is
counted from the parameters, in float32; in bfloat16 it is half.
"""

from pipelines.core.spec import ModelSpec
from pipelines.models.captioning import traits

PIPELINE = "pipelines.models.captioning.pipeline:CaptionPipeline"

BLIP2_OPT = ModelSpec(
    key="blip2-opt-2.7b",
    title="BLIP-2 OPT 2.7B",
    task="caption",
    family="BLIP-2",
    pipeline=PIPELINE,
    repo="Salesforce/blip2-opt-2.7b",
    revision="main",
    licence="MIT",
    memory_gb=15.0,
    download_gb=14.98,
    generative=traits.BLIP2_OPT,
)

BLIP2_T5 = ModelSpec(
    key="blip2-flan-t5-xl",
    title="BLIP-2 flan-T5 XL",
    task="caption",
    family="BLIP-2",
    pipeline=PIPELINE,
    repo="Salesforce/blip2-flan-t5-xl",
    revision="main",
    licence="MIT",
    memory_gb=15.8,
    download_gb=15.77,
    generative=traits.BLIP2_T5,
)

BLIP_BASE = ModelSpec(
    key="blip-base",
    title="BLIP base: captions, small",
    task="caption",
    family="BLIP-2",
    pipeline=PIPELINE,
    repo="Salesforce/blip-image-captioning-base",
    revision="main",
    licence="BSD-3-Clause",
    memory_gb=1.0,
    download_gb=0.99,
    generative=traits.BLIP,
)

BLIP_VQA = ModelSpec(
    key="blip-vqa-base",
    title="BLIP VQA base: single questions, small",
    task="caption",
    family="BLIP-2",
    pipeline=PIPELINE,
    repo="Salesforce/blip-vqa-base",
    revision="main",
    licence="BSD-3-Clause",
    memory_gb=1.6,
    download_gb=1.54,
    generative=traits.BLIP_VQA,
)

INSTRUCTBLIP_T5 = ModelSpec(
    key="instructblip-flan-t5-xl",
    title="InstructBLIP flan-T5 XL",
    task="caption",
    family="BLIP-2",
    pipeline=PIPELINE,
    repo="Salesforce/instructblip-flan-t5-xl",
    revision="main",
    licence="MIT",
    memory_gb=16.1,
    download_gb=16.09,
    generative=traits.INSTRUCTBLIP_T5,
)

LLAVA = ModelSpec(
    key="llava-1.5-7b",
    title="LLaVA 1.5 7B",
    task="caption",
    family="LLaVA",
    pipeline=PIPELINE,
    repo="llava-hf/llava-1.5-7b-hf",
    revision="main",
    licence="Llama 2 Community",
    memory_gb=28.3,
    download_gb=14.13,
    generative=traits.LLAVA_15,
)

JOYCAPTION = ModelSpec(
    key="joycaption-beta-one",
    title="JoyCaption beta one",
    task="caption",
    family="LLaVA",
    pipeline=PIPELINE,
    repo="fancyfeast/llama-joycaption-beta-one-hf-llava",
    revision="main",
    licence="Llama 3.1 Community",
    memory_gb=33.9,
    download_gb=16.96,
    generative=traits.JOYCAPTION,
)

FLORENCE2 = ModelSpec(
    key="florence-2-base",
    title="Florence-2 base: captions, small",
    task="caption",
    family="Florence-2",
    pipeline=PIPELINE,
    repo="florence-community/Florence-2-base",
    revision="main",
    licence="MIT",
    memory_gb=1.1,
    download_gb=0.54,
    generative=traits.FLORENCE2,
)

QWEN = ModelSpec(
    key="qwen2.5-vl-3b",
    title="Qwen2.5-VL 3B",
    task="caption",
    family="Qwen-VL",
    pipeline=PIPELINE,
    repo="Qwen/Qwen2.5-VL-3B-Instruct",
    revision="main",
    licence="Qwen Research",
    memory_gb=15.1,
    download_gb=7.51,
    generative=traits.QWEN2_5_VL,
)

INTERNVL = ModelSpec(
    key="internvl3-1b",
    title="InternVL3 1B",
    task="caption",
    family="InternVL",
    pipeline=PIPELINE,
    repo="OpenGVLab/InternVL3-1B-hf",
    revision="main",
    licence="MIT",
    memory_gb=3.8,
    download_gb=1.88,
    generative=traits.INTERNVL,
)

DEMO_BLIP2 = ModelSpec(
    key="demo-blip2",
    title="Demo: drawn shapes only",
    task="caption",
    family="BLIP-2",
    pipeline=PIPELINE,
    repo="",
    revision="",
    licence="Apache-2.0",
    memory_gb=0.05,
    download_gb=0.0,
    demo=True,
    generative=traits.DEMO_BLIP2,
)

#: The best one first, the demo last.
CAPTION_MODELS = (
    BLIP2_OPT,
    BLIP2_T5,
    INSTRUCTBLIP_T5,
    QWEN,
    LLAVA,
    JOYCAPTION,
    INTERNVL,
    FLORENCE2,
    BLIP_BASE,
    BLIP_VQA,
    DEMO_BLIP2,
)

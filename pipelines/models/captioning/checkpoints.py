"""Checkpoints that caption images or answer questions about them.

No revision of these repositories is established, so they are taken at "main". Memory is computed
from the number of parameters in float32; in bfloat16 it is half.
"""

from functools import partial

from pipelines.core.spec import ModelSpec
from pipelines.models.captioning import traits

_caption_model = partial(
    ModelSpec,
    task="caption",
    family="BLIP-2",
    pipeline="pipelines.models.captioning.pipeline:CaptionPipeline",
    revision="main",
    licence="MIT",
)

BLIP2_OPT = _caption_model(
    key="blip2-opt-2.7b",
    title="BLIP-2 OPT 2.7B",
    repo="Salesforce/blip2-opt-2.7b",
    memory_gb=15.0,
    download_gb=14.98,
    generative=traits.BLIP2_OPT,
)

BLIP_BASE = _caption_model(
    key="blip-base",
    title="BLIP base: captions, small",
    repo="Salesforce/blip-image-captioning-base",
    licence="BSD-3-Clause",
    memory_gb=1.0,
    download_gb=0.99,
    generative=traits.BLIP,
)

DEMO_BLIP2 = _caption_model(
    key="demo-blip2",
    title="Demo: drawn shapes only",
    revision="",
    licence="Apache-2.0",
    demo=True,
    generative=traits.DEMO_BLIP2,
)

#: The best one first, the demo last.
CAPTION_MODELS = (
    BLIP2_OPT,
    _caption_model(
        key="blip2-flan-t5-xl",
        title="BLIP-2 flan-T5 XL",
        repo="Salesforce/blip2-flan-t5-xl",
        memory_gb=15.8,
        download_gb=15.77,
        generative=traits.BLIP2_T5,
    ),
    _caption_model(
        key="instructblip-flan-t5-xl",
        title="InstructBLIP flan-T5 XL",
        repo="Salesforce/instructblip-flan-t5-xl",
        memory_gb=16.1,
        download_gb=16.09,
        generative=traits.INSTRUCTBLIP_T5,
    ),
    _caption_model(
        key="qwen2.5-vl-3b",
        title="Qwen2.5-VL 3B",
        repo="Qwen/Qwen2.5-VL-3B-Instruct",
        family="Qwen-VL",
        licence="Qwen Research",
        memory_gb=15.1,
        download_gb=7.51,
        generative=traits.QWEN2_5_VL,
    ),
    _caption_model(
        key="llava-1.5-7b",
        title="LLaVA 1.5 7B",
        repo="llava-hf/llava-1.5-7b-hf",
        family="LLaVA",
        licence="Llama 2 Community",
        memory_gb=28.3,
        download_gb=14.13,
        generative=traits.LLAVA_15,
    ),
    _caption_model(
        key="joycaption-beta-one",
        title="JoyCaption beta one",
        repo="fancyfeast/llama-joycaption-beta-one-hf-llava",
        family="LLaVA",
        licence="Llama 3.1 Community",
        memory_gb=33.9,
        download_gb=16.96,
        generative=traits.JOYCAPTION,
    ),
    _caption_model(
        key="internvl3-1b",
        title="InternVL3 1B",
        repo="OpenGVLab/InternVL3-1B-hf",
        family="InternVL",
        memory_gb=3.8,
        download_gb=1.88,
        generative=traits.INTERNVL,
    ),
    _caption_model(
        key="florence-2-base",
        title="Florence-2 base: captions, small",
        repo="florence-community/Florence-2-base",
        family="Florence-2",
        memory_gb=1.1,
        download_gb=0.54,
        generative=traits.FLORENCE2,
    ),
    BLIP_BASE,
    _caption_model(
        key="blip-vqa-base",
        title="BLIP VQA base: single questions, small",
        repo="Salesforce/blip-vqa-base",
        licence="BSD-3-Clause",
        memory_gb=1.6,
        download_gb=1.54,
        generative=traits.BLIP_VQA,
    ),
    DEMO_BLIP2,
)

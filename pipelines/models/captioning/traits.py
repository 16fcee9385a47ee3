"""Differences between the image-to-text models that one pipeline runs.

No model is recognised by its name: every choice in the code reads a field of `GenerativeTraits`.
"""

from dataclasses import replace

from pipelines.core.spec import GenerativeTraits

BLIP2_OPT = GenerativeTraits(
    model_class="Blip2ForConditionalGeneration",
    connector="query tokens",
    decoder="causal",
    image_first=True,
    stops=("Question:",),
)

#: Trained with up to three earlier turns; of a longer conversation it reads the latest ones.
DEMO_BLIP2 = replace(BLIP2_OPT, context_tokens=256, prompt_tokens=96)

BLIP2_T5 = replace(BLIP2_OPT, decoder="seq2seq", stops=())

BLIP = GenerativeTraits(
    model_class="BlipForConditionalGeneration",
    connector="cross attention",
    decoder="causal",
    question=None,
    turn=None,
    special_tokens=False,
)

BLIP_VQA = GenerativeTraits(
    model_class="BlipForQuestionAnswering",
    connector="question encoder",
    decoder="seq2seq",
    caption=None,
    continuation=None,
    question="{question}",
    turn=None,
)

INSTRUCTBLIP_T5 = GenerativeTraits(
    model_class="InstructBlipForConditionalGeneration",
    connector="instructed query tokens",
    decoder="seq2seq",
    image_first=True,
    caption="{image}A short image description:",
)

INSTRUCTBLIP_VICUNA = replace(
    INSTRUCTBLIP_T5, decoder="causal", context_tokens=2048, stops=("Question:",)
)

LLAVA_15 = GenerativeTraits(
    model_class="LlavaForConditionalGeneration",
    connector="projected patches",
    decoder="causal",
    image_text="<image>\n",
    caption="USER: {image}Describe this image. ASSISTANT:",
    continuation="USER: {image}{prompt} ASSISTANT:",
    question="USER: {image}{question} ASSISTANT:",
    turn="USER: {image}{question} ASSISTANT: {answer}</s>",
    context_tokens=4096,
)

_LLAMA3_USER = "<|start_header_id|>user<|end_header_id|>\n\n{image}"
_LLAMA3_REPLY = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"

JOYCAPTION = GenerativeTraits(
    model_class="LlavaForConditionalGeneration",
    connector="projected patches",
    decoder="causal",
    image_text="<|reserved_special_token_70|><|reserved_special_token_69|>"
    "<|reserved_special_token_71|>",
    opening="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 July 2024\n\n"
    "You are a helpful image captioner.<|eot_id|>",
    caption=_LLAMA3_USER + "Write a short description of this image." + _LLAMA3_REPLY,
    continuation=_LLAMA3_USER + "{prompt}" + _LLAMA3_REPLY,
    question=_LLAMA3_USER + "{question}" + _LLAMA3_REPLY,
    turn=_LLAMA3_USER + "{question}" + _LLAMA3_REPLY + "{answer}<|eot_id|>",
    special_tokens=False,
    context_tokens=8192,
)

FLORENCE2 = GenerativeTraits(
    model_class="Florence2ForConditionalGeneration",
    connector="projected patches",
    decoder="seq2seq",
    image_text="<image>",
    caption="{image}<s>What does the image describe?</s>",
    continuation=None,
    question=None,
    turn=None,
    special_tokens=False,
    context_tokens=1024,
)

_CHATML_USER = "<|im_start|>user\n{image}"
_CHATML_REPLY = "<|im_end|>\n<|im_start|>assistant\n"

INTERNVL = GenerativeTraits(
    model_class="InternVLForConditionalGeneration",
    connector="projected patches",
    decoder="causal",
    image_text="<img><IMG_CONTEXT></img>\n",
    caption=_CHATML_USER + "Describe this image." + _CHATML_REPLY,
    continuation=_CHATML_USER + "{prompt}" + _CHATML_REPLY,
    question=_CHATML_USER + "{question}" + _CHATML_REPLY,
    turn=_CHATML_USER + "{question}" + _CHATML_REPLY + "{answer}<|im_end|>\n",
    special_tokens=False,
    image_options=(("crop_to_patches", True),),
    context_tokens=8192,
    languages=("en", "zh"),
)

QWEN_VL = replace(
    INTERNVL,
    model_class="Qwen2VLForConditionalGeneration",
    connector="gridded patches",
    image_text="<|vision_start|><|image_pad|><|vision_end|>",
    opening="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    image_options=(),
    max_image_pixels=1_003_520,  # 1280 tokens; a photo would take up to 16,384
    languages=("en", "zh", "ja", "ko"),
)

QWEN2_5_VL = replace(QWEN_VL, model_class="Qwen2_5_VLForConditionalGeneration")
QWEN3_VL = replace(QWEN_VL, model_class="Qwen3VLForConditionalGeneration", opening="")

MINICPM_V = replace(
    INTERNVL,
    model_class="MiniCPMV4_6ForConditionalGeneration",
    connector="sized patches",
    image_text="<image_id>0</image_id><image><|image_pad|></image>\n",
    image_options=(("slice_mode", False),),
)

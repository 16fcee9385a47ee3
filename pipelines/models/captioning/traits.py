"""What differs between the image-to-text models that one pipeline runs. Torch-free.

A model is described here, never recognised by its name: every choice that the code makes reads a
field of `GenerativeTraits`.
"""

from dataclasses import dataclass, replace
from typing import Literal

#: How the language model gets to see the image.
#: - "query tokens": a Q-Former sums it up in a few tokens before the text (BLIP-2);
#: - "instructed query tokens": likewise, having read the question (InstructBLIP);
#: - "cross attention": the decoder looks at the patches at every layer (BLIP captions);
#: - "question encoder": likewise, through an encoder that reads the question (BLIP answers);
#: - "projected patches": every patch becomes a token of the text (LLaVA, InternVL, Florence-2);
#: - "gridded patches": likewise, at the image's own proportions (Qwen-VL);
#: - "sized patches": likewise, in one view of the whole image (MiniCPM-V).
Bridge = Literal[
    "query tokens",
    "instructed query tokens",
    "cross attention",
    "question encoder",
    "projected patches",
    "gridded patches",
    "sized patches",
]


@dataclass(frozen=True, kw_only=True)
class GenerativeTraits:
    """What differs between the models.

    The templates hold `{image}`, `{prompt}`, `{question}` and `{answer}`; None means that the
    model cannot do it. In a conversation `{image}` is filled in the first turn only.

    Attributes:
        model_class: name of the stock class in transformers.
        bridge: how the language model sees the image.
        decoder: "causal", which reads the prompt and goes on from it, or "seq2seq", whose
            encoder reads the prompt.
        caption: the text for a caption without a prompt.
        continuation: the text for a caption with a prompt.
        question: the text for a question, and for the last turn of a conversation.
        turn: the text of an earlier turn of a conversation.
        opening: what stands before the first turn.
        image_text: what `{image}` becomes where the image's tokens stand in the text: the text of
            one image token, with what frames it.
        image_first: whether the image's tokens stand before the start token that the tokeniser
            adds; `{image}` is then empty.
        special_tokens: whether the tokeniser adds its start and end tokens.
        image_options: options of the stock image processor that its own file leaves out.
        max_image_pixels: where the image keeps its proportions, most pixels it is brought to, if
            its processor's own file allows more; 0 for no other limit.
        context_tokens: tokens of prompt, image and, for a causal decoder, answer together.
        prompt_tokens: most tokens of prompt and image where the model was taught no longer ones;
            0 for no other limit than `context_tokens`.
        stops: texts at which an answer ends, such as a next question that the model makes up.
        languages: ISO 639-1 codes of the languages that it reads well.
    """

    model_class: str
    bridge: Bridge
    decoder: Literal["causal", "seq2seq"]
    caption: str | None = "{image}"
    continuation: str | None = "{image}{prompt}"
    question: str | None = "{image}Question: {question} Answer:"
    turn: str | None = "{image}Question: {question} Answer: {answer}. "
    opening: str = ""
    image_text: str = ""
    image_first: bool = False
    special_tokens: bool = True
    image_options: tuple[tuple[str, bool | int], ...] = ()
    max_image_pixels: int = 0
    context_tokens: int = 512
    prompt_tokens: int = 0
    stops: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)

    @property
    def longest_answer(self) -> int:
        """Most tokens of an answer that leave room for a picture and what is asked of it.

        An encoder reads them apart from the answer; a causal decoder holds all of them together.
        """
        if self.decoder == "seq2seq":
            return self.context_tokens
        return self.context_tokens - (self.prompt_tokens or self.context_tokens // 4)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it does: "caption", "prompt", "question", "chat"."""
        able = {
            "caption": self.caption,
            "prompt": self.continuation,
            "question": self.question,
            "chat": self.turn,
        }
        return tuple(task for task, template in able.items() if template is not None)


BLIP2_OPT = GenerativeTraits(
    model_class="Blip2ForConditionalGeneration",
    bridge="query tokens",
    decoder="causal",
    image_first=True,
    stops=("Question:",),
)

#: It was taught with up to three earlier turns: of a longer conversation it reads the latest ones.
DEMO_BLIP2 = replace(BLIP2_OPT, context_tokens=256, prompt_tokens=96)

BLIP2_T5 = GenerativeTraits(
    model_class="Blip2ForConditionalGeneration",
    bridge="query tokens",
    decoder="seq2seq",
    image_first=True,
)

BLIP = GenerativeTraits(
    model_class="BlipForConditionalGeneration",
    bridge="cross attention",
    decoder="causal",
    question=None,
    turn=None,
    special_tokens=False,
)

BLIP_VQA = GenerativeTraits(
    model_class="BlipForQuestionAnswering",
    bridge="question encoder",
    decoder="seq2seq",
    caption=None,
    continuation=None,
    question="{question}",
    turn=None,
)

INSTRUCTBLIP_T5 = GenerativeTraits(
    model_class="InstructBlipForConditionalGeneration",
    bridge="instructed query tokens",
    decoder="seq2seq",
    image_first=True,
    caption="{image}A short image description:",
)

INSTRUCTBLIP_VICUNA = GenerativeTraits(
    model_class="InstructBlipForConditionalGeneration",
    bridge="instructed query tokens",
    decoder="causal",
    image_first=True,
    caption="{image}A short image description:",
    context_tokens=2048,
    stops=("Question:",),
)

LLAVA_15 = GenerativeTraits(
    model_class="LlavaForConditionalGeneration",
    bridge="projected patches",
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
    bridge="projected patches",
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
    bridge="projected patches",
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
    bridge="projected patches",
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

QWEN_VL = GenerativeTraits(
    model_class="Qwen2VLForConditionalGeneration",
    bridge="gridded patches",
    decoder="causal",
    image_text="<|vision_start|><|image_pad|><|vision_end|>",
    opening="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    caption=_CHATML_USER + "Describe this image." + _CHATML_REPLY,
    continuation=_CHATML_USER + "{prompt}" + _CHATML_REPLY,
    question=_CHATML_USER + "{question}" + _CHATML_REPLY,
    turn=_CHATML_USER + "{question}" + _CHATML_REPLY + "{answer}<|im_end|>\n",
    special_tokens=False,
    max_image_pixels=1_003_520,  # 1280 tokens; a photo would take up to 16,384
    context_tokens=8192,
    languages=("en", "zh", "ja", "ko"),
)

QWEN2_5_VL = replace(QWEN_VL, model_class="Qwen2_5_VLForConditionalGeneration")
QWEN3_VL = replace(QWEN_VL, model_class="Qwen3VLForConditionalGeneration", opening="")

MINICPM_V = GenerativeTraits(
    model_class="MiniCPMV4_6ForConditionalGeneration",
    bridge="sized patches",
    decoder="causal",
    image_text="<image_id>0</image_id><image><|image_pad|></image>\n",
    caption=_CHATML_USER + "Describe this image." + _CHATML_REPLY,
    continuation=_CHATML_USER + "{prompt}" + _CHATML_REPLY,
    question=_CHATML_USER + "{question}" + _CHATML_REPLY,
    turn=_CHATML_USER + "{question}" + _CHATML_REPLY + "{answer}<|im_end|>\n",
    special_tokens=False,
    image_options=(("slice_mode", False),),
    context_tokens=8192,
    languages=("en", "zh"),
)

"""Which families of image-to-text models run, and how that is known. Torch-free.

The table of families in docs/models.md is generated from this. A test compares it with what is
tested.
"""

from dataclasses import dataclass
from typing import Literal

from pipelines.core.spec import GenerativeTraits
from pipelines.models.captioning import traits


@dataclass(frozen=True, kw_only=True)
class Support:
    """One family.

    Attributes:
        family: what people call it.
        repos: checkpoints on the hub in the format that stock classes read.
        traits: how it is run, or None where it is not.
        tasks: what it does here: "caption", "prompt", "question", "chat".
        checked: "stock processor": on random weights every text equals that of the stock
            processor, `generate` and decoding; "stock model": that of the stock model on the
            same tokens, its processor needing torchvision; "remote": no stock class runs it; it
            is reached through a server (`--remote`), not tried with its weights.
        note: limits, or why it does not run; one sentence, or "".
    """

    family: str
    repos: tuple[str, ...]
    traits: GenerativeTraits | None
    checked: Literal["stock processor", "stock model", "remote"]
    note: str = ""

    def __post_init__(self) -> None:
        """Check that what does not run says why."""
        elsewhere = self.checked == "remote"
        if (self.traits is None) != elsewhere or (elsewhere and not self.note):
            raise ValueError(f"{self.family} must have traits, or say why it does not run")

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it does, read from its traits."""
        return self.traits.tasks if self.traits else ()


_TILES = "Its stock processor needs torchvision; the PIL image processor is used, and the prompt "
_WRITTEN = "is written by us after its chat template, not compared with a real checkpoint."

_ELSEWHERE = "There is no stock class. Any server that runs it and speaks chat completions will do."

FAMILIES: tuple[Support, ...] = (
    Support(
        family="BLIP-2 OPT",
        repos=("Salesforce/blip2-opt-2.7b", "Salesforce/blip2-opt-6.7b"),
        traits=traits.BLIP2_OPT,
        checked="stock processor",
    ),
    Support(
        family="BLIP-2 flan-T5",
        repos=("Salesforce/blip2-flan-t5-xl", "Salesforce/blip2-flan-t5-xxl"),
        traits=traits.BLIP2_T5,
        checked="stock processor",
    ),
    Support(
        family="BLIP",
        repos=(
            "Salesforce/blip-image-captioning-base",
            "Salesforce/blip-image-captioning-large",
        ),
        traits=traits.BLIP,
        checked="stock processor",
        note="Captions only; questions are another checkpoint, below.",
    ),
    Support(
        family="BLIP VQA",
        repos=("Salesforce/blip-vqa-base", "Salesforce/blip-vqa-capfilt-large"),
        traits=traits.BLIP_VQA,
        checked="stock processor",
        note="Single questions only: it was trained on no captions and no conversations.",
    ),
    Support(
        family="InstructBLIP flan-T5",
        repos=("Salesforce/instructblip-flan-t5-xl", "Salesforce/instructblip-flan-t5-xxl"),
        traits=traits.INSTRUCTBLIP_T5,
        checked="stock processor",
        note="Needs the folder qformer_tokenizer of its repository.",
    ),
    Support(
        family="InstructBLIP Vicuna",
        repos=("Salesforce/instructblip-vicuna-7b", "Salesforce/instructblip-vicuna-13b"),
        traits=traits.INSTRUCTBLIP_VICUNA,
        checked="stock processor",
        note="Needs the folder qformer_tokenizer of its repository.",
    ),
    Support(
        family="LLaVA 1.5",
        repos=("llava-hf/llava-1.5-7b-hf",),
        traits=traits.LLAVA_15,
        checked="stock processor",
    ),
    Support(
        family="JoyCaption (LLaVA)",
        repos=("fancyfeast/llama-joycaption-beta-one-hf-llava",),
        traits=traits.JOYCAPTION,
        checked="stock processor",
        note="Its prompt is written by us after public uses of it, not compared with the real one.",
    ),
    Support(
        family="Florence-2",
        repos=("florence-community/Florence-2-base", "florence-community/Florence-2-large"),
        traits=traits.FLORENCE2,
        checked="stock model",
        note="Captions only. The repositories of Microsoft hold code of their own and do not run.",
    ),
    Support(
        family="InternVL 2.5 and 3",
        repos=("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3-2B-hf"),
        traits=traits.INTERNVL,
        checked="stock model",
        note=_TILES + _WRITTEN + " Only repositories whose name ends in -hf.",
    ),
    Support(
        family="Qwen2-VL",
        repos=("Qwen/Qwen2-VL-2B-Instruct",),
        traits=traits.QWEN_VL,
        checked="stock model",
        note=_TILES + _WRITTEN,
    ),
    Support(
        family="Qwen2.5-VL",
        repos=("Qwen/Qwen2.5-VL-3B-Instruct",),
        traits=traits.QWEN2_5_VL,
        checked="stock model",
        note=_TILES + _WRITTEN,
    ),
    Support(
        family="Qwen3-VL",
        repos=("Qwen/Qwen3-VL-2B-Instruct",),
        traits=traits.QWEN3_VL,
        checked="stock model",
        note=_TILES + _WRITTEN,
    ),
    Support(
        family="MiniCPM-V 4.6",
        repos=("openbmb/MiniCPM-V-4.6",),
        traits=traits.MINICPM_V,
        checked="stock model",
        note=_TILES + _WRITTEN + " The image is seen whole, not in slices.",
    ),
    *(
        Support(family=family, repos=(), traits=None, checked="remote", note=_ELSEWHERE + more)
        for family, more in (
            ("MiniCPM-V up to 4.5, MiniCPM-o", " vLLM serves them."),
            ("CogVLM, CogVLM2", " lmdeploy serves them."),
            ("VisualGLM", ""),
            ("MiniGPT-4", ""),
            ("Qwen-VL (the first)", ""),
        )
    ),
)

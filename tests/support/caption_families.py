"""Supported families of image-to-text models and the evidence for each.

The table of families in docs/models.md is generated from this list. A test compares it with the
tested families.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from pipelines.core.spec import GenerativeTraits
from pipelines.models.captioning import traits


@dataclass(frozen=True)
class Support:
    """One family.

    Attributes:
        family: its common name.
        repos: checkpoints on the hub in the format of the stock classes.
        traits: how to run it; None where it only runs on a server.
        checked: the reference that texts on random weights equal. "stock processor": its stock
            processor, `generate` and decoding; "stock model": the stock model on the same tokens,
            since its processor needs torchvision; "remote": none, no stock class runs it; it is
            used through a server (`--remote`) and not tested with its weights.
        note: limits, or the reason why it does not run; one sentence, or "".
    """

    family: str
    repos: tuple[str, ...] = ()
    traits: GenerativeTraits | None = None
    _: KW_ONLY
    checked: Literal["stock processor", "stock model", "remote"] = "stock processor"
    note: str = ""

    def __post_init__(self) -> None:
        remote = self.checked == "remote"
        if (self.traits is None) != remote or (remote and not self.note):
            raise ValueError(f"{self.family} must have traits, or say why it does not run")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Its tasks, of "caption", "prompt", "question" and "chat"."""
        return self.traits.tasks if self.traits else ()


_TILES = "Its stock processor needs torchvision; the PIL image processor is used, and the prompt "
_WRITTEN = "is written by us after its chat template, not compared with a real checkpoint."

_REMOTE = "There is no stock class. Any server that runs it and speaks chat completions will do."

FAMILIES: tuple[Support, ...] = (
    Support(
        "BLIP-2 OPT", ("Salesforce/blip2-opt-2.7b", "Salesforce/blip2-opt-6.7b"), traits.BLIP2_OPT
    ),
    Support(
        "BLIP-2 flan-T5",
        ("Salesforce/blip2-flan-t5-xl", "Salesforce/blip2-flan-t5-xxl"),
        traits.BLIP2_T5,
    ),
    Support(
        "BLIP",
        (
            "Salesforce/blip-image-captioning-base",
            "Salesforce/blip-image-captioning-large",
        ),
        traits.BLIP,
        note="Captions only; questions are another checkpoint, below.",
    ),
    Support(
        "BLIP VQA",
        ("Salesforce/blip-vqa-base", "Salesforce/blip-vqa-capfilt-large"),
        traits.BLIP_VQA,
        note="Single questions only: it was trained on no captions and no conversations.",
    ),
    Support(
        "InstructBLIP flan-T5",
        ("Salesforce/instructblip-flan-t5-xl", "Salesforce/instructblip-flan-t5-xxl"),
        traits.INSTRUCTBLIP_T5,
        note="Needs the folder qformer_tokenizer of its repository.",
    ),
    Support(
        "InstructBLIP Vicuna",
        ("Salesforce/instructblip-vicuna-7b", "Salesforce/instructblip-vicuna-13b"),
        traits.INSTRUCTBLIP_VICUNA,
        note="Needs the folder qformer_tokenizer of its repository.",
    ),
    Support("LLaVA 1.5", ("llava-hf/llava-1.5-7b-hf",), traits.LLAVA_15),
    Support(
        "JoyCaption (LLaVA)",
        ("fancyfeast/llama-joycaption-beta-one-hf-llava",),
        traits.JOYCAPTION,
        note="Its prompt is written by us after public uses of it, not compared with the real one.",
    ),
    Support(
        "Florence-2",
        ("florence-community/Florence-2-base", "florence-community/Florence-2-large"),
        traits.FLORENCE2,
        checked="stock model",
        note="Captions only. The repositories of Microsoft hold code of their own and do not run.",
    ),
    Support(
        "InternVL 2.5 and 3",
        ("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3-2B-hf"),
        traits.INTERNVL,
        checked="stock model",
        note=_TILES + _WRITTEN + " Only repositories whose name ends in -hf.",
    ),
    Support(
        "Qwen2-VL",
        ("Qwen/Qwen2-VL-2B-Instruct",),
        traits.QWEN_VL,
        checked="stock model",
        note=_TILES + _WRITTEN,
    ),
    Support(
        "Qwen2.5-VL",
        ("Qwen/Qwen2.5-VL-3B-Instruct",),
        traits.QWEN2_5_VL,
        checked="stock model",
        note=_TILES + _WRITTEN,
    ),
    Support(
        "Qwen3-VL",
        ("Qwen/Qwen3-VL-2B-Instruct",),
        traits.QWEN3_VL,
        checked="stock model",
        note=_TILES + _WRITTEN,
    ),
    Support(
        "MiniCPM-V 4.6",
        ("openbmb/MiniCPM-V-4.6",),
        traits.MINICPM_V,
        checked="stock model",
        note=_TILES + _WRITTEN + " The image is seen whole, not in slices.",
    ),
    *(
        Support(family, checked="remote", note=_REMOTE + more)
        for family, more in (
            ("MiniCPM-V up to 4.5, MiniCPM-o", " vLLM serves them."),
            ("CogVLM, CogVLM2", " lmdeploy serves them."),
            ("VisualGLM", ""),
            ("MiniGPT-4", ""),
            ("Qwen-VL (the first)", ""),
        )
    ),
)

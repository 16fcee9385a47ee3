"""Configuration of a VideoChat-Flash checkpoint, from the fields of its original files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.core.errors import InputError, WeightsError

TowerKind = Literal["umt", "internvideo2"]
DroppingKind = Literal["uniform", "attention", "uniform0_attention"]

#: The class that every published checkpoint names in `architectures`.
ARCHITECTURE = "VideoChatFlashQwenForCausalLM"

#: Values of all published checkpoints; any other is another model.
_FIXED_FIELDS: dict[str, Any] = {
    "mm_projector_type": "tome16_mlp_hd64",
    "mm_patch_merge_type": "spatial_nopad",
    "mm_newline_position": "nothing",
    "vision_encode_type": "video_image",
    "rope_scaling": None,
    "use_sliding_window": False,
}

#: Fields of `transformers.Qwen2Config`, and their types. The 1M checkpoint's
#: `dual_chunk_attention_config` is ignored, as in the reference.
_TEXT_FIELDS: dict[str, type] = {
    "bos_token_id": int,
    "hidden_act": str,
    "hidden_size": int,
    "initializer_range": float,
    "intermediate_size": int,
    "max_position_embeddings": int,
    "num_attention_heads": int,
    "num_hidden_layers": int,
    "num_key_value_heads": int,
    "rms_norm_eps": float,
    "tie_word_embeddings": bool,
    "vocab_size": int,
}

#: Fields that the size of the model depends on.
_NEEDED = {
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
}


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Dimensions of a vision tower; `image_px` and `patch_px` are sides of frames and patches.

    Attributes:
        hidden_size: width C.
        num_layers: blocks that are run, which are those in the file.
        num_heads: attention heads; token merging averages over them too.
        mlp_size: width inside a block's MLP.
        clip_frames: frames that attend to one another.

    Raises:
        WeightsError: frames of partial patches, or unequal heads.
    """

    kind: TowerKind
    image_px: int
    patch_px: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    clip_frames: int = 4

    def __post_init__(self) -> None:
        if self.image_px % self.patch_px or self.hidden_size % self.num_heads:
            raise WeightsError(
                "The vision tower must have frames of whole patches and equal heads, but got "
                "{pixels} px in patches of {patch} and {features} features in {heads} heads. "
                "This is another model.",
                pixels=self.image_px,
                patch=self.patch_px,
                features=self.hidden_size,
                heads=self.num_heads,
            )

    @property
    def grid(self) -> int:
        """Patches along one side of a frame."""
        return self.image_px // self.patch_px


@dataclass(frozen=True)
class Dropping:
    """Dropping of visual tokens between layers of the language model.

    Attributes:
        kind: choice of tokens: evenly spread ("uniform"), by the attention of the last token of the
            prompt ("attention"), or evenly at the first stage and by attention at the later ones
            ("uniform0_attention").
        layers: layers (counted from 0) before which tokens are dropped, increasing.
        ratios: share of all visual tokens that is left at the beginning (1) and after each stage.

    Raises:
        InputError: the values do not fit one another.
    """

    kind: DroppingKind
    layers: tuple[int, ...]
    ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(DroppingKind):
            raise InputError(
                "The kind of token dropping must be one of {choices}, but got {given!r}.",
                choices=", ".join(get_args(DroppingKind)),
                given=str(self.kind)[:40],
            )
        if len(self.ratios) != len(self.layers) + 1 or self.ratios[0] != 1:
            raise InputError(
                "{layers} dropping layers need {ratios} ratios of which the first is 1, but "
                "got {given}.",
                layers=len(self.layers),
                ratios=len(self.layers) + 1,
                given=list(self.ratios),
            )
        if list(self.layers) != sorted(set(self.layers)) or min(self.layers, default=1) < 1:
            raise InputError(
                "Dropping layers must increase from 1 on, but got {given}.", given=list(self.layers)
            )
        if any(not 0 < after <= before for before, after in pairwise(self.ratios)):
            raise InputError(
                "Ratios must fall from 1 and stay above 0, but got {given}.",
                given=list(self.ratios),
            )

    def by_attention(self, stage: int) -> bool:
        """Return whether the stage, counted from 0, chooses by attention."""
        return self.kind == "attention" or (self.kind == "uniform0_attention" and stage > 0)

    @property
    def first_scored_layer(self) -> int | None:
        """The first layer before which attention chooses; None if there is none."""
        scored = [layer for stage, layer in enumerate(self.layers) if self.by_attention(stage)]
        return scored[0] if scored else None

    def check_fits(self, num_layers: int) -> None:
        """Check that every stage comes before a layer of the language model.

        Raises:
            InputError: one does not.
        """
        if self.layers and self.layers[-1] >= num_layers:
            raise InputError(
                "The language model has the layers 0 to {last}, but tokens were to be dropped "
                "before layer {given}.",
                last=num_layers - 1,
                given=self.layers[-1],
            )


#: Recommendation of the model cards for long videos; off in every published file.
CARD_DROPPING = Dropping("uniform0_attention", (4, 18), (1.0, 0.75, 0.25))


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults:
    """Values of `generation_config.json`.

    The repetition penalty is over the generated tokens, in greedy decoding too; `top_k` 0 is no
    limit; `stop_ids` end an answer.
    """

    repetition_penalty: float = 1.05
    temperature: float = 0.7
    top_k: int = 20
    top_p: float = 0.8
    stop_ids: tuple[int, ...] = (151645, 151643)


@dataclass(frozen=True, kw_only=True)
class VideoChatFlashConfig:
    """Configuration of a checkpoint.

    Attributes:
        text: arguments of `transformers.Qwen2Config`.
        max_tokens: the longest prompt, text and visual tokens together.
        dropping: of visual tokens by default; None in every published file.
        merged_tokens: visual tokens left of each clip.
    """

    vision: VisionConfig
    text: Mapping[str, Any]
    max_tokens: int = 32768
    dropping: Dropping | None = None
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)
    merged_tokens: int = 64

    @property
    def hidden_size(self) -> int:
        """Width D of the language model."""
        return int(self.text["hidden_size"])

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding, according to the file."""
        return bool(self.text.get("tie_word_embeddings", False))


def vision_config(fields: Mapping[str, Any]) -> VisionConfig:
    """Return the tower that `mm_vision_tower` names.

    Its dimensions are constants of the architecture, in no field of a published file. A miniature
    declares its own in `fixture_vision_config`.

    Raises:
        WeightsError: it names no tower of this family.
    """
    name = str(fields.get("mm_vision_tower"))
    if "internvideo2" in name:
        kind: TowerKind = "internvideo2"
        size = {"image_size": 224, "patch_size": 14, "hidden_size": 1408, "num_hidden_layers": 40}
        ratio = 48 / 11
    elif "umt" in name:
        kind, ratio = "umt", 4.0
        size = {"patch_size": 16, "hidden_size": 1024, "num_hidden_layers": 24}
        size["image_size"] = 448 if "umt-hd" in name else 224
    else:
        raise WeightsError(
            "The vision tower must be umt-large, umt-hd-large or internvideo2, but the "
            "configuration names {given!r}. This is another model.",
            given=name[:60],
        )
    given: dict[str, Any] = {
        **size,
        "num_attention_heads": 16,
        "mlp_ratio": ratio,
        **(fields.get("fixture_vision_config") or {}),
    }
    # the reference counts the output layer from the end, and builds none after it
    select = int(fields.get("mm_vision_select_layer", -2))
    return VisionConfig(
        kind=kind,
        image_px=int(given["image_size"]),
        patch_px=int(given["patch_size"]),
        hidden_size=int(given["hidden_size"]),
        num_layers=int(given["num_hidden_layers"]) + select + 1,
        num_heads=int(given["num_attention_heads"]),
        mlp_size=int(given["hidden_size"] * given["mlp_ratio"]),
        clip_frames=int(fields.get("mm_local_num_frames", 4)),
    )


def parse_config(
    fields: Mapping[str, Any], generation: Mapping[str, Any] | None = None
) -> VideoChatFlashConfig:
    """Return the configuration of the original `config.json` and, if any, `generation_config.json`.

    Raises:
        WeightsError: it is of another family, or a variant that was never published.
    """
    # `model_type` is not reliable: it is "qwen2" in one published file
    named = fields.get("architectures") or []
    if ARCHITECTURE not in named and not {"mm_vision_tower", "mm_projector_type"} <= set(fields):
        raise WeightsError(
            "The configuration must name {architecture} in `architectures`, but names "
            "{given}. This is another model.",
            architecture=ARCHITECTURE,
            given=str(fields.get("architectures"))[:80],
        )
    for name, only in _FIXED_FIELDS.items():
        if fields.get(name, only) != only:
            raise WeightsError(
                "{name} must be {only!r}, but the configuration says {given!r}. This variant "
                "is not supported.",
                name=name,
                only=only,
                given=str(fields[name])[:60],
            )
    if missing := {name for name in _NEEDED if fields.get(name) is None}:
        raise WeightsError("The configuration lacks {missing}.", missing=", ".join(sorted(missing)))
    try:
        return _parse(fields, generation or {})
    except (TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            "The configuration holds a value of another kind than it must: {problem}.",
            problem=error,
        ) from error


def _parse(fields: Mapping[str, Any], generation: Mapping[str, Any]) -> VideoChatFlashConfig:
    vision = vision_config(fields)
    if fields.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
        raise WeightsError(
            "mm_hidden_size must be {size} with this vision tower, but the configuration says "
            "{given}.",
            size=vision.hidden_size,
            given=fields["mm_hidden_size"],
        )
    return VideoChatFlashConfig(
        vision=vision,
        text=_text(fields),
        max_tokens=int(fields.get("tokenizer_model_max_length") or 32768),
        dropping=_dropping(fields),
        generation=_generation(generation, fields.get("eos_token_id")),
    )


def read_config(folder: Path) -> VideoChatFlashConfig:
    """Read `config.json`, and `generation_config.json` if it exists.

    Raises:
        WeightsError: a file is missing, no JSON, or of another model.
    """
    fields = _read_json(folder / "config.json")
    path = folder / "generation_config.json"
    return parse_config(fields, _read_json(path) if path.is_file() else None)


def _text(fields: Mapping[str, Any]) -> dict[str, Any]:
    theta = float(fields.get("rope_theta", 1e6))
    return {
        **{
            name: kind(fields[name])
            for name, kind in _TEXT_FIELDS.items()
            if fields.get(name) is not None
        },
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    }


def _dropping(fields: Mapping[str, Any]) -> Dropping | None:
    if not fields.get("mm_llm_compress"):
        return None
    layers = fields.get("llm_compress_layer_list") or ()
    ratios = fields.get("llm_image_token_ratio_list") or ()
    try:
        return Dropping(fields.get("llm_compress_type", "attention"), tuple(layers), tuple(ratios))
    except InputError as error:
        raise WeightsError(
            "The configuration turns on token dropping: {problem}", problem=error.message
        ) from error


def _generation(given: Mapping[str, Any], eos: int | Sequence[int] | None) -> GenerationDefaults:
    kinds = {"repetition_penalty": float, "temperature": float, "top_k": int, "top_p": float}
    values: dict[str, Any] = {name: kinds[name](given[name]) for name in kinds if name in given}
    if (stop := given.get("eos_token_id", eos)) is not None:
        values["stop_ids"] = (stop,) if isinstance(stop, int) else tuple(stop)
    return GenerationDefaults(**values)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            "{name} cannot be read. Delete the model's folder so that it is fetched again.",
            name=path.name,
        ) from error
    if not isinstance(read, dict):
        raise WeightsError("{name} must hold an object, but holds something else.", name=path.name)
    return read

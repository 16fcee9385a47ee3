"""Conversion between ViCLIP's published files and our model; strict in both directions.

Supported forms: `model.safetensors` of the `-hf` repositories, and the training run's `.pth`. Both
have the same names, possibly with a wrapper's prefix. All dimensions except the numbers of heads
are read from the tensors' shapes, since the published `config.json` lacks them.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipelines.core.errors import WeightsError
from pipelines.core.messages import Message
from pipelines.models.viclip.configuration_viclip import ViClipConfig
from pipelines.models.viclip.modeling_viclip import ViClipModel
from pipelines.models.viclip.raw_checkpoints import read_pickled_weights

#: Prefixes of wrappers.
PREFIXES = ("module.", "model.", "viclip.")

#: Keys of the weights in a training checkpoint; "module" is DeepSpeed's.
WEIGHT_KEYS = ("model", "module", "state_dict")

#: Size of an attention head in both published models.
HEAD_SIZE = 64

_THEIR_PROJECTION = re.compile(r"\.attn\.in_proj_(weight|bias)$")

State = dict[str, torch.Tensor]


def find_weights(place: Path) -> Path:
    """Return the weights file: `place` itself or the one in that folder, safetensors first.

    Raises:
        WeightsError: there is none, or there are several pickles.
    """
    if place.is_file():
        return place
    if (place / "model.safetensors").is_file():
        return place / "model.safetensors"
    found = sorted([*place.glob("*.pth"), *place.glob("*.pt"), *place.glob("*.bin")])
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found[:5]) or "none"
    raise WeightsError(
        "A ViCLIP model needs model.safetensors or exactly one .pth file, but got {given}.",
        given=names,
    )


def load_viclip(place: Path, *, dtype: torch.dtype = torch.float32) -> ViClipModel:
    """Load the model from a folder or file in evaluation mode on the CPU, without gradients.

    Raises:
        WeightsError: weights are missing, damaged or of another model; the message names missing,
            unexpected and wrongly shaped tensors.
    """
    state = read_state(find_weights(place))
    config = config_of(state, _read_config(place))
    with torch.device("meta"):
        model = ViClipModel(config)
    check_state(state, model)
    model.load_state_dict(state, strict=True, assign=True)
    result: ViClipModel = model.to(dtype).eval().requires_grad_(False)
    return result


def read_state(file: Path) -> State:
    """Return the tensors of a weights file under our names.

    Raises:
        WeightsError: the file is damaged or has no named tensors.
    """
    if file.suffix == ".safetensors":
        try:
            state: Any = load_file(file)
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                "The weights of this ViCLIP model are damaged or not all there. Delete the file "
                "so that it is fetched again."
            ) from error
    else:
        state = _weights_within(read_pickled_weights(file))
    return {
        _THEIR_PROJECTION.sub(r".attn.in_proj.\1", name): tensor
        for name, tensor in strip_prefixes(state).items()
    }


def strip_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    """Return `state` without wrappers' prefixes that all names share."""
    while state:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def config_of(state: State, written: dict[str, Any]) -> ViClipConfig:
    """Return the dimensions of `state`, which has our names.

    Of the checkpoint's own configuration, `written`, only `vision_heads` and `text_heads` are read,
    which no shape shows. Without them heads are 64 wide, as in both published models; a width that
    is no multiple of 64 is refused, since a wrong number has no visible effect.

    Raises:
        WeightsError: the tensors are not those of a ViCLIP model.
    """
    try:
        vision_width = len(state["vision_encoder.class_embedding"])
        text_width, embed_dim = state["text_encoder.text_projection"].shape
        stem = state["vision_encoder.conv1.weight"].shape
        num_patches = len(state["vision_encoder.positional_embedding"]) - 1
        side = round(num_patches**0.5)
        return ViClipConfig(
            image_size=side * stem[-1],
            patch_size=stem[-1],
            num_frames=state["vision_encoder.temporal_positional_embedding"].shape[1],
            vision_width=vision_width,
            vision_layers=_num_layers(state, "vision_encoder"),
            vision_heads=_num_heads(written, "vision_heads", vision_width),
            text_width=text_width,
            text_layers=_num_layers(state, "text_encoder"),
            text_heads=_num_heads(written, "text_heads", text_width),
            context_length=len(state["text_encoder.positional_embedding"]),
            vocab_size=len(state["text_encoder.token_embedding.weight"]),
            embed_dim=embed_dim,
            mlp_ratio=len(state["vision_encoder.transformer.resblocks.0.mlp.c_fc.bias"])
            // vision_width,
        )
    except (KeyError, IndexError, ValueError, TypeError, StrictDataclassError) as error:
        lacking = (
            Message(" It lacks {name}.", name=error.args[0]) if isinstance(error, KeyError) else ""
        )
        raise WeightsError(
            "These weights are not those of a ViCLIP model.{lacking} Fetch the model again, "
            "or name another folder.",
            lacking=lacking,
        ) from error


def check_state(state: State, model: ViClipModel) -> None:
    """Check that `state` has exactly the tensors of `model`, in their shapes.

    Raises:
        WeightsError: it has not; the message counts and names the differences.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {
        f"{name} is {tuple(state[name].shape)} and not {shape}"
        for name, shape in wanted.items()
        if name in state and tuple(state[name].shape) != shape
    }
    names_by_kind = {
        "missing": wanted.keys() - state.keys(),
        "unexpected": state.keys() - wanted.keys(),
        "of another shape": shapes,
    }
    differences = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in names_by_kind.items()
        if names
    ]
    if differences:
        raise WeightsError(
            "The tensors of this ViCLIP model must be exactly its {count}, but there are "
            "{given}. This is another model or a damaged file: fetch it again.",
            count=len(wanted),
            given="; ".join(differences),
        )


def _num_heads(written: dict[str, Any], name: str, width: int) -> int:
    if name in written:
        return written[name]  # type: ignore[no-any-return]  # checked by the configuration
    if width % HEAD_SIZE:
        raise WeightsError(
            "The config.json of this ViCLIP model must state {name}, since {width} is no "
            "multiple of {size}, the size of a head in the published models.",
            name=name,
            width=width,
            size=HEAD_SIZE,
        )
    return width // HEAD_SIZE


def _num_layers(state: State, tower: str) -> int:
    start = f"{tower}.transformer.resblocks."
    indices = [
        name.removeprefix(start).partition(".")[0] for name in state if name.startswith(start)
    ]
    count = 1 + max((int(index) for index in indices), default=-1)
    if count > len(indices):  # a stray number must not create a million blocks
        raise ValueError(f"{count} blocks of {len(indices)} tensors")
    return count


def _weights_within(loaded: Any) -> State:
    """Return the state dict of a training checkpoint, or a bare one."""
    if isinstance(loaded, dict):
        inner = next((loaded[k] for k in WEIGHT_KEYS if isinstance(loaded.get(k), dict)), loaded)
        if inner and all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in inner.items()
        ):
            return dict(inner)
    raise WeightsError(
        "The checkpoint must hold tensors by name, bare or under {keys}, but it does not. It "
        "belongs to another model.",
        keys=", ".join(WEIGHT_KEYS),
    )


def _read_config(place: Path) -> dict[str, Any]:
    """Return the configuration beside the weights, {} if there is no readable one."""
    folder = place if place.is_dir() else place.parent
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}

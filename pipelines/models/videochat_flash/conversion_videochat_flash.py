"""Conversion of original weights to our modules: every tensor is accounted for, on both sides.

Source: key names and shapes are those of the published files; see NOTES.md.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pipelines.core.errors import WeightsError
from pipelines.models.videochat_flash.configuration_videochat_flash import read_config
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel
from pipelines.models.videochat_flash.modeling_vision import VisualEncoder

log = logging.getLogger(__name__)

_TOWER = "model.vision_tower.vision_tower."
_OUTPUT, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

#: Rows of two large matrices that are compared together.
_ROWS = 4096


@dataclass(frozen=True)
class Origin:
    """Source of one of our parameters: names of tensors in the original files.

    `build` makes the parameter of them, `split` makes them of the parameter.
    """

    names: tuple[str, ...]
    build: Callable[..., torch.Tensor] = lambda tensor: tensor
    split: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = lambda tensor: (tensor,)


class Files:
    """The safetensors files of a checkpoint, one or many.

    Raises:
        WeightsError: there are none, or their index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
        if index.is_file():
            self._where = _read_index(index)
        elif single.is_file():
            with _open(single) as file:
                self._where = dict.fromkeys(file.keys(), single.name)
        else:
            raise WeightsError(
                "The folder must hold model.safetensors or model.safetensors.index.json, but "
                "holds neither. Have the model fetched again."
            )

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._where)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor, from the files' headers.

        Raises:
            WeightsError: a file cannot be read, or differs from the index.
        """
        found: dict[str, tuple[int, ...]] = {}
        for part in sorted(set(self._where.values())):
            with _open(self._folder / part) as file:
                held = set(file.keys())
                claimed = {name for name, where in self._where.items() if where == part}
                if held != claimed:
                    raise WeightsError(
                        "{name} must hold the {count} tensors that the index names, but "
                        "{differing} differ. Have the model fetched again.",
                        name=part,
                        count=len(claimed),
                        differing=_some(held ^ claimed),
                    )
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in held}
        return found

    @contextmanager
    def reader(self) -> Iterator[Callable[[str], torch.Tensor]]:
        """Yield a function that reads one tensor; files stay open during the block."""
        opened: dict[str, Any] = {}
        stack = ExitStack()

        def read(name: str) -> torch.Tensor:
            part = self._where[name]
            if part not in opened:
                opened[part] = stack.enter_context(_open(self._folder / part))
            tensor: torch.Tensor = opened[part].get_tensor(name)
            return tensor

        with stack:
            yield read


def load_model(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> VideoChatFlashModel:
    """Load a published checkpoint, in evaluation mode, without gradients.

    `folder` has config.json, generation_config.json and the safetensors files. Every tensor of the
    files is used and every parameter filled; memory holds the model once and one tensor more.

    Raises:
        WeightsError: the files are damaged or of another model.
    """
    config, files = read_config(folder), Files(folder)
    with torch.device("meta"):
        model = VideoChatFlashModel(config)
    origins = model_origins(model)
    if config.tied and not _tie(files, origins):
        model.language.config.tie_word_embeddings = False
    fill(model, origins, files, dtype=dtype, device=device)
    if f"language.{_OUTPUT}" not in origins:
        model.language.lm_head.weight = model.language.model.embed_tokens.weight
    # buffers that are in no file, and still on the meta device
    rotary = type(model.language.model.rotary_emb)(config=model.language.config)
    model.language.model.rotary_emb = rotary.to(device)
    return model.eval().requires_grad_(False)


def model_origins(model: VideoChatFlashModel) -> dict[str, Origin]:
    """Return the origin of every parameter of a model."""
    origins = {f"visual.{name}": origin for name, origin in visual_origins(model.visual).items()}
    names = [name for name, _ in model.language.named_parameters(remove_duplicate=False)]
    return origins | {f"language.{name}": Origin((name,)) for name in names}


def visual_origins(visual: VisualEncoder) -> dict[str, Origin]:
    """Return the origin of every parameter of tower and projector."""
    umt = visual.config.vision.kind == "umt"
    prefix = _TOWER + ("encoder." if umt else "")
    patch_px = visual.config.vision.patch_px
    renamed = {"norm.": "vision_layernorm.", "patch_embed.": "patch_embed.proj."}
    origins: dict[str, Origin] = {}
    for name, _ in visual.tower.named_parameters():
        theirs = name
        for ours, original in renamed.items():
            if name.startswith(ours):
                theirs = name.replace(ours, original, 1)
        for inner in ("qkv", "proj", "q_norm", "k_norm"):
            if name.startswith("blocks."):
                theirs = theirs.replace(f".{inner}.", f".attn.{inner}.")
        theirs = theirs.replace(".fc", ".mlp.fc")
        if name.endswith("qkv.bias"):
            stem = prefix + theirs.removesuffix("qkv.bias")
            origin = Origin((f"{stem}q_bias", f"{stem}v_bias"), _join_bias, _split_bias)
        elif name == "patch_embed.weight":
            origin = Origin(
                (prefix + theirs,),
                lambda kernel: kernel.flatten(1),
                lambda rows: (rows.unflatten(1, (3, 1, patch_px, patch_px)),),
            )
        else:
            origin = Origin((prefix + theirs,))
        origins[f"tower.{name}"] = origin
    for ours, theirs in (("fc1", "mlp.0"), ("fc2", "mlp.2")):
        for kind in ("weight", "bias"):
            origins[f"projector.{ours}.{kind}"] = Origin((f"model.mm_projector.{theirs}.{kind}",))
    return origins


def fill(
    module: nn.Module,
    origins: Mapping[str, Origin],
    files: Files,
    *,
    dtype: torch.dtype,
    device: str,
) -> None:
    """Fill a module's parameters from original files.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape, or a file is damaged.
            Names and shapes are checked before any tensor is read.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    _check(parameters, origins, files)
    with files.reader() as read:
        for ours, origin in origins.items():
            value = origin.build(*(read(name) for name in origin.names))
            owner, _, name = ours.rpartition(".")
            whole = nn.Parameter(value.to(device, dtype).contiguous(), requires_grad=False)
            setattr(module.get_submodule(owner), name, whole)


def _check(
    parameters: Mapping[str, torch.Tensor], origins: Mapping[str, Origin], files: Files
) -> None:
    """Compare names and shapes, from the headers alone."""
    wanted: dict[str, tuple[int, ...]] = {}
    for ours, origin in origins.items():
        parts = origin.split(parameters[ours].detach().to("meta"))
        wanted |= {name: tuple(part.shape) for name, part in zip(origin.names, parts, strict=True)}
    found = files.shapes()
    missing, extra = set(wanted) - set(found), set(found) - set(wanted)
    if missing or extra:
        raise WeightsError(
            "The weights must be {count} tensors, but {missing} are missing ({missing_names}) "
            "and {unknown} are unknown ({unknown_names}). This is another model or an "
            "incomplete one; delete it so that it is fetched again.",
            count=len(wanted),
            missing=len(missing),
            missing_names=_some(missing),
            unknown=len(extra),
            unknown_names=_some(extra),
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise WeightsError(
                "{name} must be of shape {shape}, but is {given}. The weights do not belong "
                "to this configuration.",
                name=name,
                shape=list(shape),
                given=list(found[name]),
            )


def _tie(files: Files, origins: dict[str, Origin]) -> bool:
    """Tie the output layer to the embedding if the files agree; return whether they do.

    Takes the output layer out of `origins` if it is missing. If both are there and equal, they are
    read once.
    """
    if {_OUTPUT, _EMBEDDING} <= files.names:
        with files.reader() as read:
            first, second = read(_OUTPUT), read(_EMBEDDING)
            equal = first.shape == second.shape and all(
                torch.equal(first[row : row + _ROWS], second[row : row + _ROWS])
                for row in range(0, len(first), _ROWS)
            )
        if not equal:
            log.warning("Output layer and embedding differ although the configuration ties them")
            return False
        origins[f"language.{_EMBEDDING}"] = Origin(
            (_EMBEDDING, _OUTPUT), lambda kept, _: kept, lambda kept: (kept, kept)
        )
    del origins[f"language.{_OUTPUT}"]
    return True


def _join_bias(queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.cat([queries, torch.zeros_like(queries), values])


def _split_bias(joined: torch.Tensor) -> tuple[torch.Tensor, ...]:
    queries, _, values = joined.chunk(3)
    return queries, values


def _read_index(path: Path) -> dict[str, str]:
    try:
        where = json.loads(path.read_text("utf-8"))["weight_map"]
        found = {str(name): str(part) for name, part in where.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            "model.safetensors.index.json cannot be read. Have the model fetched again."
        ) from error
    if any(Path(part).name != part for part in found.values()):
        raise WeightsError("The index of the weights names files outside of the model's folder.")
    return found


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            "{name} is missing or damaged. Delete it so that it is fetched again.", name=path.name
        ) from error


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3]) or "none"
    return shown + (" …" if len(names) > 3 else "")

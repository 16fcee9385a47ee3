"""VideoChat-Flash at the widths of its 2B checkpoint with random weights, in the file format."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from demo_models.training.videochat.model import original_tensors
from pipelines.models.videochat_flash import modeling_umt
from pipelines.models.videochat_flash.configuration_videochat_flash import parse_config
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel

#: Its tokeniser has an id for each byte; its config.json names what all checkpoints share.
TEMPLATE = Path(__file__).parent.parent / "tests" / "fixtures" / "videochat_flash"

_LANGUAGE = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "mm_hidden_size": 1024,
}
_TOWER = {"image_size": 448, "hidden_size": 1024, "num_attention_heads": 16}

#: Sizes at which everything takes a moment.
_TINY_LANGUAGE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 272,
    "mm_hidden_size": 64,
}
_TINY_TOWER = {"image_size": 112, "hidden_size": 64, "num_attention_heads": 4}


def make_chat(folder: Path, tower_layers: int, layers: int, *, tiny: bool = False) -> Path:
    """Save a model of the 2B's widths with so many blocks of tower and language model."""
    folder.mkdir(parents=True)
    fields = json.loads((TEMPLATE / "config.json").read_text("utf-8"))
    fields |= _TINY_LANGUAGE if tiny else _LANGUAGE
    fields |= {"num_hidden_layers": layers, "tie_word_embeddings": False}
    # one more is counted than is built: the reference reads the last but one
    tower = _TINY_TOWER if tiny else _TOWER
    fields["fixture_vision_config"] = {**tower, "num_hidden_layers": tower_layers + 1}
    torch.manual_seed(0)
    model = VideoChatFlashModel(parse_config(fields))
    with torch.no_grad():  # letters only, so that answers can be compared
        head: Any = model.language.lm_head.weight
        letters = head[ord("a") : ord("z") + 1].clone()
        head.zero_()
        head[ord("a") : ord("z") + 1] = letters
    tensors = {name: part.bfloat16() for name, part in original_tensors(model).items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields), "utf-8")
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TEMPLATE / name, folder)
    return folder


@contextmanager
def attend_eagerly() -> Iterator[None]:
    """Have the tower attend as the formula says, with all scores in memory."""

    def eager(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return scores.softmax(dim=-1) @ value

    with patch.object(modeling_umt, "full_attention", eager):
        yield

"""A tiny VideoChat-Flash in the published file format, and a bundle that holds it."""

import json
import re
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from demo_models.training.videochat.model import original_tensors
from pipelines.models.videochat_flash.configuration_videochat_flash import parse_config
from pipelines.models.videochat_flash.modeling_videochat_flash import VideoChatFlashModel
from pipelines.weights.locate import BUNDLE
from tests.fakes.tiny_viclip import make_bundle as make_viclip_bundle

#: Its config.json says what of the original's is kept; its tokeniser has an id for each byte.
GOLDEN = Path(__file__).parent.parent / "fixtures" / "videochat_flash"

#: A size at which a question takes milliseconds.
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mm_hidden_size": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "fixture_vision_config": {
        "image_size": 96,
        "patch_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
}

NEWLINE, END = 10, 258


def make_tiny_videochat(folder: Path, *, says: str = "", seed: int = 0) -> Path:
    """Save a tiny model.

    Args:
        folder: is made.
        says: the answer to every question; without it answers are random letters that depend on
            video and question and end only at `max_new_tokens`.
        seed: of the weights.
    """
    folder.mkdir(parents=True)
    words = re.findall(r"\S+\s*", says)
    fields = json.loads((GOLDEN / "config.json").read_text("utf-8"))
    fields |= SIZE | {"vocab_size": 272 + len(words)}
    generation = json.loads((GOLDEN / "generation_config.json").read_text("utf-8"))
    torch.manual_seed(seed)
    model = VideoChatFlashModel(parse_config(fields, generation))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.25)
        if says:
            _teach(model.language, [NEWLINE, *range(272, 272 + len(words)), END])
        else:
            _speak_letters(model.language)
    save_file(original_tensors(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields), "utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    _save_tokenizer(folder, words)
    return folder


def make_bundle(folder: Path, *, says: str = "") -> Path:
    """Return a bundle of the real demo checkpoints, with a tiny `demo-videochat` in any case."""
    make_viclip_bundle(folder)
    demo = folder / "demo-videochat"
    if demo.is_symlink():
        demo.unlink()
    make_tiny_videochat(demo, says=says)
    shutil.copy(BUNDLE / "demo-clip" / "demo.json", demo)
    return folder


def _speak_letters(language: Any) -> None:
    """Leave only letters and the blank to choose from."""
    letters = [*range(ord("a"), ord("z") + 1), ord(" ")]
    others = torch.ones(len(language.lm_head.weight), dtype=torch.bool)
    others[letters] = False
    language.lm_head.weight[others] = 0.0


def _teach(language: Any, chain: Sequence[int]) -> None:
    """Make each token of a chain follow the one before it, whatever came before that."""
    for layer in language.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    language.lm_head.weight.zero_()
    for token, following in pairwise(chain):
        language.lm_head.weight[following] += language.model.embed_tokens.weight[token]


def _save_tokenizer(folder: Path, words: Sequence[str]) -> None:
    tokenizer = json.loads((GOLDEN / "tokenizer.json").read_text("utf-8"))
    fields = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"] += [
        {"id": 272 + number, "content": word, "special": False, **fields}
        for number, word in enumerate(words)
    ]
    filler = [{"id": i, "content": f"<{i}>", "special": False, **fields} for i in range(259, 272)]
    tokenizer["added_tokens"] += filler if words else []
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    shutil.copy(GOLDEN / "tokenizer_config.json", folder)

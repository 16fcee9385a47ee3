"""Trains the bundled demo CLIP from nothing: `python -m demo_models.train_clip --out FOLDER`.

The run is fixed by its seed and its number of steps, never by the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from demo_models.training.clip.data import Batch, BatchSizes, load_or_make_cache, make_batch
from demo_models.training.clip.losses import DenseHeads, MatchLoss, soft_cross_entropy
from demo_models.training.tokenizers import MAX_TOKENS, build_tokenizer, grammar_corpus
from demo_models.world.scenes import PICTURE_PX
from demo_models.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_PAIRS,
    SCENE_BANK,
    SHAPES,
)

WIDTH = 128
MAX_LOGIT_SCALE = math.log(60.0)


@dataclass(frozen=True)
class TrainOptions:
    """The whole recipe in numbers."""

    steps: int = 5000
    seed: int = 7
    num_scenes: int = 120_000
    num_non_scenes: int = 14_000
    sizes: BatchSizes = BatchSizes()
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    warmup: int = 60
    decay_share: float = 0.6  # of the steps, at the end, linear to 0
    match_weight: float = 0.5
    num_corpus_texts: int = 12_000


SMOKE = TrainOptions(
    steps=3,
    num_scenes=40,
    num_non_scenes=7,
    sizes=BatchSizes(scenes=6, non_scenes=2, hard_texts=2, off_world_texts=2),
    num_corpus_texts=300,
)


def sin_cos_positions(grid: int, width: int) -> Tensor:
    """Return fixed 2-D position codes (1 + grid², width), the class token's row zero."""
    frequencies = torch.exp(-math.log(100.0) * torch.arange(width // 4) / (width // 4))
    axis = (torch.arange(grid) + 0.5) / grid * 2 * math.pi
    angles = axis[:, None] * frequencies[None] * 2
    code = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width/2)
    rows = code[:, None].expand(grid, grid, -1)
    columns = code[None].expand(grid, grid, -1)
    table = torch.cat([rows, columns], dim=-1).reshape(grid * grid, width)
    return torch.cat([torch.zeros(1, width), table])


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained CLIP of about 1.6 million parameters."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4,
             "hidden_act": "gelu", "projection_dim": WIDTH}  # fmt: skip
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
               "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    config = CLIPConfig(
        text_config={**tower, **special, "num_hidden_layers": 3, "vocab_size": len(tokenizer),
                     "max_position_embeddings": MAX_TOKENS},
        vision_config={**tower, "num_hidden_layers": 4, "image_size": PICTURE_PX, "patch_size": 8},
        projection_dim=WIDTH,
    )  # fmt: skip
    config._attn_implementation = "eager"  # its bfloat16 backward is the faster one on a CPU
    model = CLIPModel(config)
    codes = sin_cos_positions(PICTURE_PX // 8, WIDTH)
    with torch.no_grad():
        embeddings = model.vision_model.embeddings
        embeddings.position_embedding.weight.copy_(0.3 * codes)
        embeddings.patch_embedding.weight.mul_(2.5)  # pixels weigh more than positions
    return model


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """Return the stock processor: the whole picture is squashed to 64 x 64."""
    images = CLIPImageProcessorPil(
        size={"height": PICTURE_PX, "width": PICTURE_PX},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def build_optimizers(
    model: CLIPModel, heads: nn.Module, options: TrainOptions
) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices and AdamW for everything else."""
    hidden: list[nn.Parameter] = []
    rest = list(heads.parameters())
    for name, parameter in model.named_parameters():
        inside = ".layers." in name and parameter.ndim == 2
        (hidden if inside else rest).append(parameter)
    return [
        torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=options.adam_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate_at(step: int, options: TrainOptions) -> float:
    """Return the factor on the learning rates: warm-up, constant, then linear to 0."""
    decay_steps = max(1, round(options.decay_share * options.steps))
    return min(1.0, (step + 1) / options.warmup, (options.steps - step) / decay_steps)


def encode_texts(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return unit text embeddings (T, D); short and long texts run apart to save padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    parts = []
    third = math.ceil(len(order) / 3)
    for start in range(0, len(order), third):
        chunk = [texts[index] for index in order[start : start + third]]
        inputs = tokenizer(
            chunk, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        parts.append(model.get_text_features(**inputs).pooler_output)
    back = torch.tensor(order).argsort()
    return functional.normalize(torch.cat(parts)[back].float(), dim=-1)


def batch_loss(
    model: CLIPModel, tokenizer: CLIPTokenizer, heads: nn.ModuleDict, batch: Batch, weight: float
) -> dict[str, Tensor]:
    """Return the losses of one batch by name: contrast, match, dense."""
    pixels = torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    truth = torch.from_numpy(batch.truth)  # (T, B)
    with torch.autocast("cpu", torch.bfloat16):
        vision = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        images = model.visual_projection(vision.pooler_output)
        texts = encode_texts(model, tokenizer, batch.texts)
    images = functional.normalize(images.float(), dim=-1)
    cosines = texts @ images.T
    logits = cosines * model.logit_scale.exp()
    labels = {
        name: torch.from_numpy(getattr(batch, name))
        for name in ("patch_shape", "patch_colour", "background", "boxes", "num_objects")
    }
    dense = heads["dense"](vision.hidden_states[-2].float(), vision.pooler_output.float(), labels)
    contrast = soft_cross_entropy(logits, truth) + soft_cross_entropy(logits.T, truth.T)
    return {
        "contrast": contrast / 2,
        "match": weight * heads["match"](cosines, truth),
        "dense": dense,
    }


def train(
    model: CLIPModel, tokenizer: CLIPTokenizer, options: TrainOptions, data: Path, out: Path
) -> None:
    """Train in place; saves to `out` every 500 steps, so that a long run can be looked at."""
    cache = load_or_make_cache(data, options.seed, options.num_scenes, options.num_non_scenes)
    rng = np.random.default_rng(options.seed + 1)
    heads = nn.ModuleDict({"dense": DenseHeads(WIDTH), "match": MatchLoss()})
    optimizers = build_optimizers(model, heads, options)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [*model.parameters(), *heads.parameters()]
    started = time.process_time()
    for step in range(options.steps):
        batch = make_batch(cache, rng, options.sizes)
        losses = batch_loss(model, tokenizer, heads, batch, options.match_weight)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * rate_at(step, options)
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        if step % 50 == 0 or step == options.steps - 1:
            told = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
            spent = time.process_time() - started
            print(f"step {step} {told} scale {model.logit_scale.exp().item():.1f} "
                  f"cpu {spent:.0f}s", flush=True)  # fmt: skip
        if (step + 1) % 500 == 0 or step + 1 == options.steps:
            save(model, tokenizer, replace(options, steps=step + 1), out)


def save(model: CLIPModel, tokenizer: CLIPTokenizer, options: TrainOptions, out: Path) -> None:
    """Write a stock checkpoint in float16 and what the demo knows, `demo.json`.

    The threshold of the "is this a demo scene" hint is measured and added by
    `demo_models.evaluate_clip`; a value that is there already is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    build_processor(tokenizer).save_pretrained(out)
    half = CLIPModel(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(out)
    about = out / "demo.json"
    old = json.loads(about.read_text()) if about.exists() else {}
    facts = {
        "demo": True,
        "knows": {"shapes": SHAPES, "colours": COLOURS, "backgrounds": BACKGROUNDS},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": options.seed,
        "steps": options.steps,
        "held_out_pairs": [" ".join(pair) for pair in HELD_OUT_PAIRS],
        "scene_bank": SCENE_BANK,
        "scene_score": old.get("scene_score", "softmax"),
        "scene_threshold": old.get("scene_threshold", 0.35),
    }
    about.write_text(json.dumps(facts, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=TrainOptions.steps)
    parser.add_argument("--seed", type=int, default=TrainOptions.seed)
    parser.add_argument("--data", type=Path, default=Path("build/demo-data"), help="cache folder")
    parser.add_argument("--smoke", action="store_true", help="three tiny steps, to test the code")
    chosen = parser.parse_args(arguments)
    options = SMOKE if chosen.smoke else TrainOptions(steps=chosen.steps)
    options = replace(options, seed=chosen.seed)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer(grammar_corpus(options.seed, options.num_corpus_texts))
    model = build_model(tokenizer)
    train(model, tokenizer, options, chosen.data, chosen.out)


if __name__ == "__main__":
    main(sys.argv[1:])

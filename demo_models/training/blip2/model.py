"""The untrained demo BLIP-2, its tokenizer and processor, and saving it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
)

from demo_models.language.question_wording import FRAME
from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.blip2.vision import NUM_LAYERS, WIDTH
from demo_models.training.checkpoints import write_card
from demo_models.training.tokenizers import opt_tokenizer
from demo_models.world.scenes import IMAGE_PX

NUM_QUERIES = 16
MAX_POSITIONS = 256


EXAMPLE_QUESTIONS = (
    "What shape is this?",
    "What colour is it?",
    "What colour is the background?",
    "How many shapes are there?",
    "Is there a red circle?",
    "Is it large or small?",
    "Where is it?",
    "What is in the picture?",
)


def build_tokenizer(texts: list[str]) -> Any:
    """Train the tokenizer on texts; image tokens leave room for the rest of the positions."""
    return opt_tokenizer(texts, MAX_POSITIONS - NUM_QUERIES)


def build_processor(tokenizer: Any) -> Any:
    """Return the stock processor; it squashes the whole image to 64 x 64, without a crop.

    It adds the `<image>` token to the tokenizer.
    """
    images = BlipImageProcessorPil(
        size={"height": IMAGE_PX, "width": IMAGE_PX},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return Blip2Processor(images, tokenizer, num_query_tokens=NUM_QUERIES)


def build_model(tokenizer: Any) -> Any:
    """Return an untrained model of about 1.9 million parameters."""
    tower = {"hidden_size": WIDTH, "num_attention_heads": 4, "attention_dropout": 0.0}
    config = Blip2Config(
        vision_config={**tower, "num_hidden_layers": NUM_LAYERS, "intermediate_size": 4 * WIDTH,
                       "image_size": IMAGE_PX, "patch_size": 8, "layer_norm_eps": 1e-5,
                       "initializer_range": 0.02},
        qformer_config={"hidden_size": WIDTH, "num_attention_heads": 4, "num_hidden_layers": 2,
                        "intermediate_size": 4 * WIDTH, "cross_attention_frequency": 1,
                        "encoder_hidden_size": WIDTH, "vocab_size": 2, "layer_norm_eps": 1e-5,
                        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        text_config={**tower, "model_type": "opt", "num_hidden_layers": 3, "ffn_dim": 4 * WIDTH,
                     "word_embed_proj_dim": WIDTH, "dropout": 0.0, "vocab_size": len(tokenizer),
                     "max_position_embeddings": MAX_POSITIONS,
                     "bos_token_id": tokenizer.bos_token_id,
                     "eos_token_id": tokenizer.eos_token_id,
                     "pad_token_id": tokenizer.pad_token_id},
        num_query_tokens=NUM_QUERIES,
        image_text_hidden_size=WIDTH,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    config._attn_implementation = "eager"  # its bfloat16 backward is the faster one on a CPU
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        model.query_tokens.normal_(0, 0.5)
    return model


def save_checkpoint(model: Any, processor: Any, out: Path, **facts: Any) -> None:
    """Write a stock checkpoint in float16 and `demo.json` with further facts.

    There is no bank of texts: the answer "I don't know" is the hint.
    """
    processor.save_pretrained(out)
    half = Blip2ForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(out)
    scene = {"scene_bank": [], "scene_score": "none", "scene_threshold": 0.0}
    words = {"prompt": FRAME, "questions": EXAMPLE_QUESTIONS, "unknown_answer": DONT_KNOW}
    write_card(out, model, {**facts, **words, **scene})

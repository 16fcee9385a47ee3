"""The parts of the demo BLIP-2: its tokenizer, its processor and the untrained model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    PreTrainedTokenizerFast,
)

from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.blip2.data import sample_text
from demo_models.training.blip2.vision import NUM_LAYERS, WIDTH
from demo_models.world.scenes import PICTURE_PX, sample_scene

NUM_QUERIES = 16
NUM_MERGES = 500
MAX_POSITIONS = 256
END, PAD = "</s>", "<pad>"


def question_corpus(seed: int, num: int) -> list[str]:
    """Return the prompts and answers of `num` random texts; strange questions are left out."""
    rng = np.random.default_rng([seed, 2])
    texts = []
    for _ in range(num):
        scene = sample_scene(rng)
        pair = sample_text(rng, scene, scene.background, True)
        if DONT_KNOW not in (pair.answer, pair.prompt):
            texts.append(f"{pair.prompt} {pair.answer}")
    return [text for text in texts if DONT_KNOW not in text]


def build_tokenizer(texts: list[str]) -> Any:
    """Train a byte-level BPE that reads lower case.

    Words of this world become few tokens, other words fall into letters. "I don't know" is
    one token, so that its capital survives and one decision is enough to say it.
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258 + NUM_MERGES,
        special_tokens=[END, PAD],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_tokens([AddedToken(DONT_KNOW, normalized=False, lstrip=True)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, backend.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=MAX_POSITIONS - NUM_QUERIES,
    )


def build_processor(tokenizer: Any) -> Any:
    """Return the stock processor; it squashes the whole picture to 64 x 64, without a crop.

    It adds the `<image>` token to the tokenizer.
    """
    images = BlipImageProcessorPil(
        size={"height": PICTURE_PX, "width": PICTURE_PX},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return Blip2Processor(images, tokenizer, num_query_tokens=NUM_QUERIES)


def build_model(tokenizer: Any) -> Any:
    """Return an untrained model of about 1.9 million parameters."""
    tower = {"hidden_size": WIDTH, "num_attention_heads": 4, "attention_dropout": 0.0}
    config = Blip2Config(
        vision_config={**tower, "num_hidden_layers": NUM_LAYERS, "intermediate_size": 4 * WIDTH,
                       "image_size": PICTURE_PX, "patch_size": 8, "layer_norm_eps": 1e-5,
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

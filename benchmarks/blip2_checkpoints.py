"""BLIP-2 OPT 2.7B with random weights in Hub format: every width is that of the real checkpoint.

The layers of both towers may be cut so that it fits the machine; a layer costs the same wherever
it stands, so ratios between ways of running them hold.
"""

from pathlib import Path
from typing import Any

import torch

#: Layers of the real checkpoint: vision tower, language model.
REAL_LAYERS = (39, 32)
QUERY_TOKENS = 32


def make_blip2(folder: Path, *, vision_layers: int, text_layers: int) -> Path:
    """Save a random BLIP-2 in bfloat16, made in that dtype so that memory holds it once.

    Its tokenizer knows single bytes only. The other tokens of the vocabulary, nearly all that
    random weights choose, stand for no text: no caption ends early.
    """
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    torch.manual_seed(0)
    tokenizer = _byte_tokenizer()
    processor = Blip2Processor(
        BlipImageProcessorPil(size={"height": 224, "width": 224}),
        tokenizer,
        num_query_tokens=QUERY_TOKENS,
    )
    config = Blip2Config(
        vision_config={"num_hidden_layers": vision_layers, "initializer_range": 0.02},
        qformer_config={},
        text_config=_opt_config(tokenizer, text_layers),
        num_query_tokens=QUERY_TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Blip2ForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _opt_config(tokenizer: Any, layers: int) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": 50304,
        "hidden_size": 2560,
        "ffn_dim": 10240,
        "word_embed_proj_dim": 2560,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="</s>", eos_token="</s>", unk_token="</s>",
        pad_token="<pad>", padding_side="left",
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return tokenizer

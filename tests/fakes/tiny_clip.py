"""Tiny random checkpoints in Hub format, for tests: each the real architecture, a few layers."""

import json
from pathlib import Path
from typing import Any

import torch

FIXTURES = Path(__file__).parent.parent / "fixtures"
IMAGE_PX = 32
WORDS = ("a", "photo", "of", "red", "blue", "circle", "square", "dog", "cat", "the", "drawing")
CHINESE = "一张红色的圆形方狗猫照片星蓝绿"


def _settle(model: Any, scale: float, bias: float | None = None) -> Any:
    """Give every weight a spread that makes vectors of different inputs differ."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            # BERT's first token sees the others only through these, and hears its own self louder
            loud = "text_model" in name and ("self.value" in name or "attention.output" in name)
            std = 1.0 if loud else 0.12
            torch.nn.init.normal_(parameter, std=std, generator=generator)
        elif "norm" in name and name.endswith("weight"):
            torch.nn.init.ones_(parameter)
        elif parameter.numel() > 1:
            torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    model.logit_scale.data.fill_(scale)
    if bias is not None:
        model.logit_bias.data.fill_(bias)
    return model.eval()


def _vision(**more: Any) -> dict[str, Any]:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    return {**size, "num_attention_heads": 4, "image_size": IMAGE_PX, "patch_size": 8, **more}


def make_tiny_clip(folder: Path) -> Path:
    """Save a CLIP of a few thousand weights with the real tokenizer."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = CLIPTokenizer.from_pretrained(FIXTURES / "clip_tokenizer")
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    }
    config = CLIPConfig(text_config=text, vision_config=_vision(), projection_dim=24)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_PX}, crop_size={"height": IMAGE_PX, "width": IMAGE_PX}
    )
    _settle(CLIPModel(config), 4.6052).save_pretrained(folder)
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def make_tiny_siglip2(folder: Path) -> Path:
    """Save a SigLIP 2 of fixed resolution: `model_type` is "siglip", the tokenizer is Gemma's."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import SiglipConfig, SiglipModel, SiglipProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

    trained = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special + bytes_)
    trained.train_from_iterator(["▁".join(WORDS), *("▁" + word for word in WORDS)], trainer)
    state = trained.to_str()
    facts = json.loads(state)["model"]
    merges = [tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in facts["merges"]]
    tokenizer = Siglip2Tokenizer(vocab=facts["vocab"], merges=merges, model_max_length=64)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "projection_size": 32,
    }
    config = SiglipConfig(text_config=text, vision_config=_vision())
    processor = SiglipImageProcessorPil(size={"height": IMAGE_PX, "width": IMAGE_PX})
    _settle(SiglipModel(config), 4.7, -16.5).save_pretrained(folder)
    SiglipProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def make_tiny_chinese_clip(folder: Path) -> Path:
    """Save a Chinese-CLIP with a BERT vocabulary of a few dozen entries."""
    from transformers import (
        BertTokenizer,
        ChineseCLIPConfig,
        ChineseCLIPModel,
        ChineseCLIPProcessor,
    )
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import (
        ChineseCLIPImageProcessorPil,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: index for index, word in enumerate([*special, *CHINESE, *WORDS, "。", "."])}
    tokenizer = BertTokenizer(vocab=vocab, model_max_length=52)
    text = {
        "vocab_size": len(vocab),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    config = ChineseCLIPConfig(text_config=text, vision_config=_vision(), projection_dim=24)
    processor = ChineseCLIPImageProcessorPil(
        size={"height": IMAGE_PX, "width": IMAGE_PX},
        crop_size={"height": IMAGE_PX, "width": IMAGE_PX},
        do_center_crop=False,
    )
    _settle(ChineseCLIPModel(config), 4.6052).save_pretrained(folder)
    ChineseCLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


#: Catalogue key -> maker of a checkpoint of its architecture.
MAKERS = {
    "clip-vit-b32": make_tiny_clip,
    "siglip2-b16": make_tiny_siglip2,
    "chinese-clip-b16": make_tiny_chinese_clip,
}

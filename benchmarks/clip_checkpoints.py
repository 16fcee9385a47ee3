"""CLIP at full size with random weights, in Hub format: speed does not depend on their values."""

from pathlib import Path

import torch

TOKENIZER = Path(__file__).parent.parent / "tests" / "fixtures" / "clip_tokenizer"


def make_clip(folder: Path, *, large: bool) -> Path:
    """Save a random CLIP of the size of ViT-B/32 or, if `large`, ViT-L/14."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    width, layers, patch = (1024, 24, 14) if large else (768, 12, 32)
    text_width, heads = (768, 12) if large else (512, 8)
    text = {
        "hidden_size": text_width,
        "intermediate_size": text_width * 4,
        "num_hidden_layers": 12,
        "num_attention_heads": heads,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "vocab_size": 49408,
    }
    vision = {
        "hidden_size": width,
        "intermediate_size": width * 4,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "image_size": 224,
        "patch_size": patch,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=text_width)
    model = CLIPModel(config)
    model.logit_scale.data.fill_(4.6052)
    model.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(folder)
    return folder

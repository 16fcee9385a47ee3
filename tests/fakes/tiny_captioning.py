"""Tiny random image-to-text checkpoints in Hub format, for tests: the real architectures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

IMAGE_PX = 32
QUERIES = 4
WORDS = (
    "a photo of the red blue green circle square dog cat on top and two hat is what shape colour "
    "question answer yes no small large left right where how many user assistant describe image"
)
TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def settle(model: Any, std: float = 0.25) -> Any:
    """Give every weight a spread that makes texts about different images differ."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            torch.nn.init.ones_(parameter)
        elif parameter.numel() > 1:
            torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model.eval()


def byte_tokenizer(special: dict[str, Any], post: str = "$A", **more: Any) -> Any:
    """Return a byte-level BPE tokeniser of 340 entries; `post` adds start and end tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = [name for value in special.values() for name in _listed(value)]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    names = list(dict.fromkeys(names))
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([WORDS, WORDS.title(), " " + WORDS] * 3, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=post, special_tokens=[(name, raw.token_to_id(name)) for name in names]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, padding_side="left", **special, **more)


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def bert_tokenizer() -> Any:
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS.split(), *".,:?'!"]
    names += [letter for letter in letters if letter not in names]
    names += ["##" + letter for letter in letters]
    vocab = {word: index for index, word in enumerate(dict.fromkeys(names))}
    tokenizer = BertTokenizer(vocab=vocab, model_max_length=512)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[DEC]"]})
    return tokenizer


def _vision(**more: Any) -> dict[str, Any]:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return {**size, "num_attention_heads": 4, "image_size": IMAGE_PX, "patch_size": 8, **more}


def _blip_images() -> Any:
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    return BlipImageProcessorPil(size={"height": IMAGE_PX, "width": IMAGE_PX})


def _opt(tokenizer: Any) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": len(tokenizer),
        **TEXT,
        "ffn_dim": 64,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 600,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _t5(tokenizer: Any) -> dict[str, Any]:
    return {
        "model_type": "t5",
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _qformer(vocab: int) -> dict[str, Any]:
    return {
        **TEXT,
        "intermediate_size": 64,
        "vocab_size": vocab,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 1,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def opt_tokenizer() -> Any:
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    return byte_tokenizer(special, "</s> $A")


def t5_tokenizer() -> Any:
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return byte_tokenizer(special, "$A </s>")


def _make_blip2(folder: Path, tokenizer: Any, text: Callable[[Any], dict[str, Any]]) -> Path:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    processor = Blip2Processor(_blip_images(), tokenizer, num_query_tokens=QUERIES)
    config = Blip2Config(
        vision_config=_vision(initializer_range=0.02),
        qformer_config=_qformer(30),
        text_config=text(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    settle(Blip2ForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_blip2_opt(folder: Path) -> Path:
    """Save a BLIP-2 with OPT as its language model."""
    return _make_blip2(folder, opt_tokenizer(), _opt)


def make_blip2_t5(folder: Path) -> Path:
    """Save a BLIP-2 with (flan-)T5 as its language model."""
    return _make_blip2(folder, t5_tokenizer(), _t5)


def _llama(tokenizer: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        **TEXT,
        "intermediate_size": 64,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def llama_tokenizer() -> Any:
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return byte_tokenizer(special, "<s> $A")


def make_instructblip(folder: Path) -> Path:
    """Save an InstructBLIP with flan-T5."""
    return _make_instructblip(folder, t5_tokenizer(), _t5)


def make_instructblip_vicuna(folder: Path) -> Path:
    """Save an InstructBLIP with Vicuna, which is a Llama."""
    return _make_instructblip(folder, llama_tokenizer(), _llama)


def _make_instructblip(folder: Path, tokenizer: Any, text: Callable[[Any], dict[str, Any]]) -> Path:
    """Save an InstructBLIP, whose Q-Former reads the question."""
    from transformers import (
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
    )

    reader = bert_tokenizer()
    processor = InstructBlipProcessor(_blip_images(), tokenizer, reader, num_query_tokens=QUERIES)
    config = InstructBlipConfig(
        vision_config=_vision(initializer_range=0.02),
        qformer_config=_qformer(len(reader)),
        text_config=text(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    settle(InstructBlipForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _make_blip(folder: Path, name: str) -> Path:
    import transformers
    from transformers import BlipConfig, BlipProcessor

    tokenizer = bert_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        **TEXT,
        "encoder_hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(vision_config=_vision(), text_config=text, projection_dim=16)
    settle(getattr(transformers, name)(config)).save_pretrained(folder)
    BlipProcessor(_blip_images(), tokenizer).save_pretrained(folder)
    return folder


def make_blip(folder: Path) -> Path:
    """Save a BLIP that captions."""
    return _make_blip(folder, "BlipForConditionalGeneration")


def make_blip_vqa(folder: Path) -> Path:
    """Save a BLIP that answers questions."""
    return _make_blip(folder, "BlipForQuestionAnswering")


def make_llava(folder: Path) -> Path:
    """Save a LLaVA with a SigLIP tower, as JoyCaption has, and a Llama."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    config = LlavaConfig(
        vision_config={"model_type": "siglip_vision_model", **_vision()},
        text_config=_llama(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=16,
    )
    images = SiglipImageProcessorPil(size={"height": IMAGE_PX, "width": IMAGE_PX})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="full"
    )
    settle(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

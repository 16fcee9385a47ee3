"""Loading of a checkpoint's model, image processor and tokenisers."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from pipelines.compute.device import Device
from pipelines.compute.packed_linear import PackedLinear, pack_linear
from pipelines.core.errors import WeightsError
from pipelines.core.settings import Quantization
from pipelines.core.spec import GenerativeTraits
from pipelines.models.captioning.image_inputs import InputParts
from pipelines.models.loading import load_stock

#: Packages for quantised models beside the pinned ones.
QUANTIZATION_EXTRA = ("bitsandbytes", "accelerate")


def load_parts(
    folder: Path,
    traits: GenerativeTraits,
    device: Device,
    *,
    key: str,
    dtype: str,
    quantization: Quantization = "none",
) -> InputParts:
    """Load a checkpoint of `traits.model_class` for inference.

    `dtype` is "float32" or "bfloat16"; `key` names the model in messages.

    Raises:
        WeightsError: a tensor or a file is missing, a tensor has another shape, or the packages
            for quantization are not installed.
    """
    import transformers
    from transformers import AutoImageProcessor, AutoTokenizer

    quantized = _quantized(quantization, key, dtype)
    model_class = getattr(transformers, traits.model_class)
    model = load_stock(model_class, folder, key=key, dtype=dtype, **quantized)
    if not quantized:
        model = model.to(device.kind)
    if device.packed and dtype == "bfloat16" and not quantized:
        pack_linear(model)
        for module in model.modules():
            if isinstance(module, PackedLinear):  # T5 inspects `weight`
                module.weight = None  # type: ignore[assignment]
    return InputParts(
        model=model,
        image_processor=AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, backend="pil"
        ),
        tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        traits=traits,
        qformer_tokenizer=_qformer_tokenizer(folder, traits, key),
    )


def _qformer_tokenizer(folder: Path, traits: GenerativeTraits, key: str) -> Any:
    if traits.connector != "instructed query tokens":
        return None
    from transformers import AutoTokenizer

    if not (folder / "qformer_tokenizer").is_dir():
        raise WeightsError(
            "The files of {model} lack the folder qformer_tokenizer. Delete them so that they "
            "are fetched again.",
            model=key,
        )
    return AutoTokenizer.from_pretrained(
        folder, subfolder="qformer_tokenizer", local_files_only=True
    )


def _quantized(quantization: Quantization, key: str, dtype: str) -> dict[str, Any]:
    """Return arguments of `from_pretrained`, {} without quantization."""
    if quantization == "none":
        return {}
    missing = [name for name in QUANTIZATION_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise WeightsError(
            "{model} was to be loaded in {quantization}, which needs {missing}. Install with: "
            "pip install {packages}; or start without --quantization.",
            model=key,
            quantization=quantization,
            missing=" and ".join(missing),
            packages=" ".join(QUANTIZATION_EXTRA),
        )
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config}

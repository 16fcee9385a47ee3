"""A checkpoint's files -> the stock model, ready to be asked."""

from pathlib import Path
from typing import Any

import torch

from pipelines.compute.device import Device
from pipelines.compute.packed_linear import pack_linear
from pipelines.core.errors import WeightsError


def load_model(folder: Path, device: Device, *, key: str, dtype: str) -> Any:
    """Load an image-text model for inference.

    Args:
        folder: the checkpoint in Hub format.
        device: where it goes.
        key: public name of the model, for messages.
        dtype: "float32" or "bfloat16".

    Raises:
        WeightsError: tensors are missing or of another shape.
    """
    from transformers import AutoModel

    model, info = AutoModel.from_pretrained(
        folder, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        raise WeightsError(
            "The weights of {model} lack {missing} tensors and {mismatched} have another "
            "shape: this is another model or a damaged file. Delete it so that it is fetched "
            "again.",
            model=key,
            missing=len(info["missing_keys"]),
            mismatched=len(info["mismatched_keys"]),
        )
    model = model.eval().requires_grad_(False).to(device.kind)
    if device.packed and dtype == "bfloat16":
        pack_linear(model)
    return model

"""Stock transformers models from a checkpoint's files."""

from pathlib import Path
from typing import Any

import torch

from pipelines.core.errors import WeightsError


def load_stock(model_class: Any, folder: Path, *, key: str, dtype: str, **options: Any) -> Any:
    """Return a stock model in evaluation mode, without gradients.

    `model_class` has `from_pretrained`, which gets `options`; `dtype` is "float32" or "bfloat16";
    `key` names the model in messages.

    Raises:
        WeightsError: tensors are missing or of another shape.
    """
    model, info = model_class.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        local_files_only=True,
        output_loading_info=True,
        **options,
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
    return model.eval().requires_grad_(False)

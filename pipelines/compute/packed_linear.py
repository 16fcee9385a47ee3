"""bfloat16 Linear layers with weights in the layout of oneDNN's kernels."""

import logging
import time
from functools import cache
from typing import Any

import torch

log = logging.getLogger(__name__)


class PackedLinear(torch.nn.Module):
    """Forward-only Linear layer with prepacked bfloat16 weights.

    In a plain bfloat16 layer oneDNN reorders the weights at every call, which for few rows costs
    more than the product. The two private operators are those of torch's inductor; `can_pack`
    tests them.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().to(torch.bfloat16)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        bias = linear.bias
        self.bias = None if bias is None else bias.detach().to(torch.bfloat16)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., out_features) bfloat16 for (..., in_features)."""
        rows = rows.to(torch.bfloat16)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._packed, self.bias, "none", [], ""
        )
        return result


@cache
def can_pack() -> bool:
    """Return whether packed layers work on this machine and agree with plain ones."""
    if not torch.backends.mkldnn.is_available():
        return False
    linear = torch.nn.Linear(64, 32).eval()
    rows = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            close = torch.allclose(PackedLinear(linear)(rows).float(), linear(rows), atol=0.05)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        log.info("Packed bfloat16 layers are not available: %s", error)
        return False
    return close


def pack_linear(model: Any) -> None:
    """Replace the Linear layers of a model on the CPU by packed ones, in place.

    `MultiheadAttention` is skipped: it reads the weights of its projections directly.
    """
    for module in list(model.modules()):
        if isinstance(module, torch.nn.MultiheadAttention):
            continue
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(module, name, PackedLinear(child))


@cache
def bfloat16_gain() -> float:
    """Return the speed of a packed bfloat16 layer relative to float32; 0.0 without packed layers.

    Compares the best of five alternating runs of a layer of CLIP's size; takes under a second.
    """
    if not can_pack():
        return 0.0
    linear = torch.nn.Linear(768, 3072).eval()
    packed = PackedLinear(linear)
    rows = torch.randn(257, 768, generator=torch.Generator().manual_seed(0))
    half = rows.bfloat16()
    with torch.inference_mode():
        packed(half)
        times = [(_seconds(linear, rows), _seconds(packed, half)) for _ in range(5)]
    return min(plain for plain, _ in times) / min(fast for _, fast in times)


def _seconds(layer: torch.nn.Module, rows: torch.Tensor) -> float:
    start = time.perf_counter()
    for _ in range(4):
        layer(rows)
    return time.perf_counter() - start

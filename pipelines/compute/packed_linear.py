"""bfloat16 Linear layers with weights in the order that oneDNN's kernels want them."""

import logging
import time
from functools import cache
from typing import Any

import torch

log = logging.getLogger(__name__)


class PackedLinear(torch.nn.Module):
    """A Linear layer, forward only, whose bfloat16 weights were reordered once.

    A plain bfloat16 layer has oneDNN reorder its weights at every call; for the few rows of one
    text or image that costs more than the product itself. The two operators are those that
    torch's own inductor uses when it freezes weights; torch is pinned in requirements.txt, and
    where they are missing `can_pack` says so.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        """Take over the weights of `linear`."""
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
    """Return whether packed layers work here and agree with plain ones."""
    if not torch.backends.mkldnn.is_available():
        return False
    linear = torch.nn.Linear(64, 32).eval()
    rows = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            close = torch.allclose(PackedLinear(linear)(rows).float(), linear(rows), atol=0.05)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        log.info("No packed bfloat16 layers here: %s", error)
        return False
    return close


def pack_linear(model: Any) -> None:
    """Replace the Linear layers of a `model` on the CPU by packed ones, in place.

    The projections inside `MultiheadAttention` are left alone: it reads their weights itself.
    """
    for module in list(model.modules()):
        if isinstance(module, torch.nn.MultiheadAttention):
            continue
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(module, name, PackedLinear(child))


@cache
def bfloat16_gain() -> float:
    """Return how many times as fast a packed bfloat16 layer is as a float32 one, here.

    Times a layer of CLIP's size both ways, well under a second in all, and takes the best of five
    runs of each, alternating. Returns 0.0 where layers cannot be packed.
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

"""Measurement of a device: matrix products and reading of weights, about a second in all."""

import time
from collections.abc import Callable

import torch

from pipelines.compute.device import Device
from pipelines.compute.packed_linear import PackedLinear
from pipelines.core.results import DeviceSpeed

#: Layer width; a product has 512 rows, reading of weights is measured with one row.
_WIDTH, _ROWS = 2048, 512

#: Number of layers for one row: more bytes than the caches of a processor hold.
_NUM_LAYERS = 24

#: Number of runs, of which the fastest counts.
_RUNS = 4


@torch.inference_mode()
def measure_speed(device: Device) -> DeviceSpeed:
    """Return the speed of a device for Linear layers in its dtype."""
    dtype = getattr(torch, device.dtype)
    layers: list[torch.nn.Module] = []
    for _ in range(_NUM_LAYERS):
        layer = torch.nn.Linear(_WIDTH, _WIDTH, bias=False)
        layers.append(PackedLinear(layer) if device.packed else layer.to(device.kind, dtype))
    rows = torch.randn(_ROWS, _WIDTH).to(device.kind, dtype)
    product_s = min(_seconds(device, lambda: layers[0](rows)) for _ in range(_RUNS))

    def one_row() -> None:
        for layer in layers:
            layer(rows[:1])

    row_s = min(_seconds(device, one_row) for _ in range(_RUNS))
    num_bytes = _NUM_LAYERS * _WIDTH * _WIDTH * (2 if dtype == torch.bfloat16 else 4)
    return DeviceSpeed(2 * _ROWS * _WIDTH * _WIDTH / product_s, num_bytes / row_s, device.dtype)


def _seconds(device: Device, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if device.kind == "cuda":
        torch.cuda.synchronize()
    elif device.kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start

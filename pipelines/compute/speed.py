"""Speed of a device: matrix products and reading of weights, measured in about a second."""

import time
from collections.abc import Callable

import torch

from pipelines.compute.device import Device
from pipelines.compute.packed_linear import PackedLinear
from pipelines.core.results import DeviceSpeed

#: Width of the layers that are timed; 512 rows make the product, one row the reading.
_WIDTH = 2048


_ROWS = 512


#: Layers that one row passes: more bytes than any cache of the processor holds.
_NUM_LAYERS = 24


#: Runs of each kind, of which the fastest counts.
_RUNS = 4


@torch.inference_mode()
def measure_speed(device: Device) -> DeviceSpeed:
    """Return what a device does with layers like those of the models, in its own precision."""
    dtype = getattr(torch, device.dtype)
    layers: list[torch.nn.Module] = []
    for _ in range(_NUM_LAYERS):
        layer = torch.nn.Linear(_WIDTH, _WIDTH, bias=False)
        layers.append(PackedLinear(layer) if device.packed else layer.to(device.kind, dtype))
    rows = torch.randn(_ROWS, _WIDTH).to(device.kind, dtype)
    many = min(_seconds(device, lambda: layers[0](rows)) for _ in range(_RUNS))

    def one_row() -> None:
        for layer in layers:
            layer(rows[:1])

    one = min(_seconds(device, one_row) for _ in range(_RUNS))
    num_bytes = _NUM_LAYERS * _WIDTH * _WIDTH * (2 if dtype == torch.bfloat16 else 4)
    return DeviceSpeed(2 * _ROWS * _WIDTH * _WIDTH / many, num_bytes / one, device.dtype)


def _seconds(device: Device, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if device.kind == "cuda":
        torch.cuda.synchronize()
    elif device.kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start

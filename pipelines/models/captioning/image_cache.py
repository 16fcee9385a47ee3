"""Encoded images kept: found by content, bounded in bytes."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch

#: Room for encoded images of one model: some 500 of BLIP-2's, 40 of LLaVA's in bfloat16.
CACHE_BYTES = 256_000_000

#: Names of tensors to tensors: an image prepared for a model, or encoded by it.
Tensors = Mapping[str, torch.Tensor]


class FeatureCache:
    """Keeps the encoded images that were used last, as many as fit into so many bytes.

    An image is known by a hash of its prepared pixels, so that the same picture is found again
    whatever its file is called; nothing of the picture itself is kept.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        """Keep at most `max_bytes`; an image that is larger alone is not kept."""
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Tensors] = OrderedDict()
        self._lock = threading.Lock()
        self.held_bytes = 0

    def get(
        self,
        prepared: Sequence[Tensors],
        encode: Callable[[list[Tensors]], list[Tensors]],
        *,
        keep: bool = True,
    ) -> list[Tensors]:
        """Return the encoded images, encoding only those that are not kept, each once.

        Args:
            prepared: images prepared for the model.
            encode: what encodes them.
            keep: whether those that were encoded now are kept.
        """
        digests = [digest(one) for one in prepared]
        with self._lock:
            found = {key: self._kept[key] for key in digests if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        missing = {key: one for key, one in zip(digests, prepared, strict=True) if key not in found}
        if missing:
            encoded = encode(list(missing.values()))
            for key, one in zip(missing, encoded, strict=True):
                found[key] = one
                if keep:
                    self._keep(key, one)
        return [found[key] for key in digests]

    def held(self) -> dict[bytes, Tensors]:
        """Return what is kept, on the CPU."""
        with self._lock:
            return {
                key: {name: tensor.cpu() for name, tensor in one.items()}
                for key, one in self._kept.items()
            }

    def take(self, values: Mapping[bytes, Tensors]) -> None:
        """Keep images that another process has encoded; see `pipelines.compute.lru`."""
        for key, one in values.items():
            self._keep(key, one)

    def move_in(self, kind: str) -> None:
        """Bring what is kept to the device, where it came from the process before the fork."""
        with self._lock:
            for key, one in self._kept.items():
                self._kept[key] = {name: tensor.to(kind) for name, tensor in one.items()}

    def _keep(self, key: bytes, encoded: Tensors) -> None:
        with self._lock:
            size = _size(encoded)
            if size > self._max_bytes or key in self._kept:
                return
            self._kept[key] = encoded
            self.held_bytes += size
            while self.held_bytes > self._max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self.held_bytes -= _size(dropped)


def digest(tensors: Tensors) -> bytes:
    """Return a hash of names, shapes, dtypes and values of tensors on the CPU."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        hashed.update(tensor.numpy().tobytes())
    return hashed.digest()


def _size(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

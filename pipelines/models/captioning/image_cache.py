"""Cache of encoded images."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch

from pipelines.compute.lru import LruCache

#: Size of the cache of one model: some 500 images of BLIP-2, 40 of LLaVA in bfloat16.
CACHE_BYTES = 256_000_000

#: Names of tensors to tensors: an image prepared for a model, or encoded by it.
Tensors = Mapping[str, torch.Tensor]


class FeatureCache:
    """LRU cache of encoded images, bounded in bytes.

    The key is a hash of the prepared pixels, so that the same image is found whatever its file is
    called; nothing of the image itself is stored.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        """Create an empty cache of at most `max_bytes`."""
        self._images: LruCache[bytes, Tensors] = LruCache(max_bytes, _size)

    @property
    def num_bytes(self) -> int:
        """Bytes of the cached tensors."""
        return self._images.weight

    def get(
        self,
        prepared: Sequence[Tensors],
        encode: Callable[[list[Tensors]], list[Tensors]],
        *,
        keep: bool = True,
    ) -> list[Tensors]:
        """Return the encoded images, encoding only those that are not cached, each once.

        Args:
            prepared: images prepared for the model.
            encode: encodes them.
            keep: whether newly encoded ones are cached.
        """
        return self._images.get_many(
            [digest(one) for one in prepared],
            lambda missing: encode([prepared[index] for index in missing]),
            keep=keep,
        )

    def snapshot(self) -> dict[bytes, Tensors]:
        """Return the encoded images on the CPU."""
        return {key: _moved(one, "cpu") for key, one in self._images.snapshot().items()}

    def update(self, values: Mapping[bytes, Tensors]) -> None:
        """Put images that another process has encoded."""
        for key, one in values.items():
            self._images.put(key, one)

    def enter_worker(self, kind: str) -> None:
        """Move the tensors, which come from the parent process, to the device."""
        self.update({key: _moved(one, kind) for key, one in self._images.snapshot().items()})


def digest(tensors: Tensors) -> bytes:
    """Return a hash of names, shapes, dtypes and values of tensors on the CPU."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        hashed.update(tensor.numpy().tobytes())
    return hashed.digest()


def _moved(tensors: Tensors, kind: str) -> Tensors:
    return {name: tensor.to(kind) for name, tensor in tensors.items()}


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())

"""Keys and values of conversations, cached between their turns and bounded in bytes."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pipelines.compute.lru import LruCache
from pipelines.models.videochat_flash.configuration_videochat_flash import Dropping

#: Placeholder of a video or image in a list of token ids.
VISUAL = -200

#: Room that a layer's buffer gets beyond what it needs now, so that a token copies nothing.
_SPARE_TOKENS = 256


@dataclass
class KeyValues:
    """What the language model keeps of the tokens it has read, one conversation's at a time.

    Layers hold different numbers of tokens once some were dropped. Stands in for transformers'
    `Cache` towards the decoder layers, which call nothing but `update`. Not for two threads at
    once.

    Attributes:
        ids: token ids that were read, with `VISUAL` once in place of all visual tokens.
        features: (n, D) the visual tokens' rows, None where there were none.
        entering: (1, L', D) the hidden states that entered the first stage which chooses by
            attention, of every token that reached it; None where there is no such stage.
    """

    ids: list[int] = field(default_factory=list)
    features: torch.Tensor | None = None
    dropping: Dropping | None = None
    entering: torch.Tensor | None = None
    _layers: dict[int, "_Layer"] = field(default_factory=dict)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (1, K, L, E) keys and values to a layer; return all that it now holds."""
        return self._layers.setdefault(layer_idx, _Layer()).append(keys, values)

    def length(self, layer: int) -> int:
        """Return how many tokens a layer holds."""
        return self._layers[layer].length if layer in self._layers else 0

    def lengths(self) -> list[int]:
        """Return how many tokens every layer holds."""
        return [self.length(layer) for layer in range(max(self._layers, default=-1) + 1)]

    def cut(self, layer: int, length: int) -> None:
        """Forget what a layer holds beyond `length` tokens."""
        if layer in self._layers:
            self._layers[layer].length = min(self._layers[layer].length, length)

    def clear(self) -> None:
        """Forget everything and give the memory back."""
        self.ids, self.features, self.entering = [], None, None
        self._layers.clear()

    @property
    def num_bytes(self) -> int:
        """Memory of all buffers, with their spare room."""
        kept = [part for layer in self._layers.values() for part in (layer.keys, layer.values)]
        kept += [self.features, self.entering]
        return sum(part.numel() * part.element_size() for part in kept if part is not None)


@dataclass
class _Layer:
    """Growing buffers of one layer."""

    length: int = 0
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.length + keys.shape[2]
        self.keys = _with_room(self.keys, keys, self.length, end)
        self.values = _with_room(self.values, values, self.length, end)
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


def _with_room(held: torch.Tensor | None, new: torch.Tensor, length: int, end: int) -> torch.Tensor:
    """Return a buffer for `end` tokens that begins with the `length` tokens of `held`."""
    if held is not None and held.shape[2] >= end:
        return held
    heads, width = new.shape[1], new.shape[3]
    grown = new.new_empty(1, heads, end + max(_SPARE_TOKENS, end // 8), width)
    if held is not None:
        grown[:, :, :length] = held[:, :, :length]
    return grown


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two lists of ids."""
    pairs = zip(first, second, strict=False)
    length = min(len(first), len(second))
    return next((place for place, (one, other) in enumerate(pairs) if one != other), length)


class Conversations(LruCache[int, tuple[str, KeyValues]]):
    """LRU cache of conversations: the frames that each is about, and what was read of it.

    A conversation is found by its content: the frames, the token dropping, and the token ids
    that it begins with. Sessions play no part, and only a common beginning is ever used. What is
    taken belongs to one request alone until it is given back.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, lambda held: held[1].num_bytes)
        self._numbers = itertools.count()
        self._taking = threading.Lock()

    def take(
        self, ids: Sequence[int], frames: str, dropping: Dropping | None
    ) -> tuple[KeyValues, int]:
        """Return keys and values that begin as `ids` do, and how many of the ids they hold.

        Only what holds the whole video counts as such a beginning; else they are empty, and no
        conversation about another video loses its own.
        """
        with self._taking:
            best, number, length = None, 0, 0
            for key, (about, values) in self.snapshot().items():
                if about != frames or values.dropping != dropping:
                    continue
                common = common_prefix(values.ids, ids)
                if VISUAL in values.ids[:common] and common >= length:
                    best, number, length = values, key, common
            if best is None:
                return KeyValues(), 0
            self.pop(number)
            return best, length

    def give_back(self, values: KeyValues, frames: str) -> None:
        """Keep a conversation, as far as it was read."""
        if values.ids:
            self.put(next(self._numbers), (frames, values))

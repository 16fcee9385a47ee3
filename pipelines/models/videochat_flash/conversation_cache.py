"""Cache of the keys and values of conversations between their turns, bounded in bytes."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.compute.lru import LruCache
from pipelines.models.videochat_flash.configuration_videochat_flash import Dropping
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import VISUAL, common_prefix


@dataclass(frozen=True, eq=False)
class _Held:
    """A conversation as far as it was read, and the frames that it is about."""

    frames: str
    values: KeyValues


class Conversations:
    """LRU cache of conversations.

    A conversation is found by its content: the frames, the token dropping, and the token ids
    that it begins with. Sessions play no part, and only a common beginning is ever used. What is
    taken belongs to one request alone until it is given back.
    """

    def __init__(self, max_bytes: int) -> None:
        self._held: LruCache[int, _Held] = LruCache(max_bytes, lambda held: held.values.num_bytes)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def take(
        self, ids: Sequence[int], frames: str, dropping: Dropping | None
    ) -> tuple[KeyValues, int]:
        """Return keys and values that begin as `ids` do, and how many of the ids they hold.

        Only what holds the whole video counts as such a beginning; else they are empty, and no
        conversation about another video loses its own.
        """
        with self._lock:
            best, number, length = None, 0, 0
            for key, held in self._held.snapshot().items():
                if held.frames != frames or held.values.dropping != dropping:
                    continue
                common = common_prefix(held.values.ids, ids)
                if VISUAL in held.values.ids[:common] and common >= length:
                    best, number, length = held, key, common
            if best is None:
                return KeyValues(), 0
            self._held.pop(number)
            return best.values, length

    def give_back(self, values: KeyValues, frames: str) -> None:
        """Keep a conversation, as far as it was read."""
        if values.ids:
            self._held.put(next(self._numbers), _Held(frames, values))

    def clear(self) -> None:
        """Give the memory back."""
        self._held.clear()

    @property
    def num_bytes(self) -> int:
        """Bytes of all conversations."""
        return self._held.weight

"""Keys and values of conversations, kept between their turns: found by content, bounded."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.models.videochat_flash.configuration_videochat_flash import Dropping
from pipelines.models.videochat_flash.kv_cache import KeyValues
from pipelines.models.videochat_flash.modeling_language import VISUAL, common_prefix


@dataclass(frozen=True, eq=False)
class _Held:
    """A conversation as far as it was read, and the frames that it is about."""

    frames: str
    values: KeyValues


class Conversations:
    """Lends what was read of a conversation to whoever goes on with it.

    A conversation is known by its content: the frames, the way of dropping, and the token ids
    that it begins with. Nobody's session comes into it, and nothing but a common beginning is
    ever used. What is lent belongs to one request alone until it is given back.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: list[_Held] = []  # used longest ago first
        self._lock = threading.Lock()

    def take(
        self, ids: Sequence[int], frames: str, dropping: Dropping | None
    ) -> tuple[KeyValues, int]:
        """Return keys and values that begin as `ids` do, and how many of the ids they hold.

        Only what holds the whole video counts as such a beginning; else they are empty, and no
        conversation about another video loses its own.
        """
        with self._lock:
            best, length = None, 0
            for held in self._held:
                if held.frames != frames or held.values.dropping != dropping:
                    continue
                common = common_prefix(held.values.ids, ids)
                if VISUAL in held.values.ids[:common] and common >= length:
                    best, length = held, common
            if best is None:
                return KeyValues(), 0
            self._held.remove(best)
            return best.values, length

    def give_back(self, values: KeyValues, frames: str) -> None:
        """Keep a conversation, as far as it was read."""
        if not values.ids:
            return
        with self._lock:
            self._held.append(_Held(frames, values))
            while self.num_bytes > self._max_bytes:
                self._held.pop(0)

    def clear(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._held.clear()

    @property
    def num_bytes(self) -> int:
        """Bytes that are kept."""
        return sum(held.values.num_bytes for held in self._held)

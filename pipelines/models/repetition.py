"""Detection of repetition in generated texts."""

import re
from collections.abc import Sequence

from pipelines.core.results import Finish

#: Least weight of a phrase, and consecutive occurrences that make a loop. Short phrases occur
#: twice in good texts ("a red square and a red square and"), long ones do not. The weight is the
#: number of words; a Chinese, Japanese or Korean character counts half.
_TIMES = ((5.0, 2), (3.0, 3), (0.0, 5))

#: Longest phrase, in words, that is detected.
MAX_PERIOD = 40

#: Words at which no sentence ends; a cut text continues past them.
_CONNECTIVES = frozenset(
    (
        *("a", "an", "the", "and", "or", "of", "on", "in", "at", "to", "with", "by", "for", "from"),
        *("is", "are", "was", "were", "that", "this", "its", "his", "her", "their", "as", "into"),
        *("over", "under", "near", "next", "top", "behind", "beside", "has", "have", "wearing"),
    )
)

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_ENDING = " \t\n,;:-，、；：—–"


class LoopGuard:
    """Filter for a growing text that ends it before it repeats itself or reaches a stop.

    Text that may be the beginning of a repetition is held back, so that emitted text is never taken
    back and the pieces of a stream join to the result of `trim` for the whole.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._words: list[str] = []
        self._ends: list[int] = []
        self._runs = [0] * (MAX_PERIOD + 1)
        self._passed = ""
        self.finish: Finish | None = None

    def feed(self, text: str) -> str:
        """Return the new certain part, given the whole text so far; "" after the end."""
        if self.finish is not None:
            return ""
        text, held = self._until_stop(text)
        if self.finish is None and self._scan(text, complete=False):
            return self._pass_on(self._cut(text))
        if self.finish is not None:
            return self._close(text)
        return self._pass_on(text[: min(self._certain(text), held)])

    def end(self, text: str) -> str:
        """Return the rest, given the whole text at the model's own end."""
        if self.finish is not None:
            return ""
        return self._close(self._until_stop(text)[0])

    def _close(self, text: str) -> str:
        whole = self._cut(text) if self._scan(text, complete=True) else text.rstrip()
        return self._pass_on(whole)

    def _until_stop(self, text: str) -> tuple[str, int]:
        """Cut at the first stop; also return up to where no stop can have begun."""
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.finish = "stop"
            return text[: min(found)].rstrip(), 0
        held = len(text)
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:size]):
                    held = min(held, len(text) - size)
                    break
        return text, held

    def _scan(self, text: str, *, complete: bool) -> bool:
        """Add the new words; return whether one of them closes a loop."""
        matches = list(_WORD.finditer(text))
        fresh = matches[len(self._words) : len(matches) if complete else -1]
        for match in fresh:
            self._words.append(_plain(match.group()))
            self._ends.append(match.end())
            at = len(self._words) - 1
            for period in range(1, min(MAX_PERIOD, at) + 1):
                same = self._words[at] == self._words[at - period]
                self._runs[period] = self._runs[period] + 1 if same else 0
            if self._loop() is not None:
                self.finish = "loop"
                return True
        return False

    def _loop(self) -> tuple[int, int] | None:
        """Return the position of a closed loop's first repeated word and its period, or None."""
        for period, run in enumerate(self._runs):
            if period and run >= period:
                weight = sum(_weight(word) for word in self._words[-period:])
                times = next(times for least, times in _TIMES if weight >= least)
                if run >= period * (times - 1):
                    return len(self._words) - run, period
        return None

    def _cut(self, text: str) -> str:
        """Return the text up to its loop, extended to a word at which it may end."""
        found = self._loop()
        assert found is not None  # `_scan` has found one
        start, period = found
        last = start - 1
        while last < start + period - 2 and self._words[last] in _CONNECTIVES:
            last += 1
        return text[: self._ends[last]].rstrip(_ENDING)

    def _certain(self, text: str) -> int:
        """Return the number of characters that no later loop can remove."""
        held = max(self._runs[1:], default=0)
        last = len(self._words) - held - 1
        return len(text[: self._ends[last]].rstrip(_ENDING)) if last >= 0 else 0

    def _pass_on(self, text: str) -> str:
        piece = text[len(self._passed) :]
        self._passed += piece
        return piece


def trim(text: str, stops: Sequence[str] = ()) -> tuple[str, Finish]:
    """Return a text without stops and final repetition, and the reason ("end" if unchanged)."""
    guard = LoopGuard(stops)
    kept = guard.end(text.strip())
    return kept, guard.finish or "end"


def _plain(word: str) -> str:
    """Return a word without case and surrounding punctuation."""
    return word.strip(".,;:!?\"'()[]-，。、；：！？").casefold() or word


def _weight(word: str) -> float:
    return 0.5 if re.match(rf"[{_CJK}]", word) else 1.0

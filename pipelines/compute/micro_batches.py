"""Requests that wait for the same model at the same time are run together."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)  # found by identity: items may be tensors, and equal items are not one request
class _Ticket(Generic[Item, Result]):
    """One request that waits; `alone` once a batch that it was part of has failed."""

    items: Sequence[Item]
    results: list[Result] = field(default_factory=list)
    done: bool = False
    alone: bool = False


class MicroBatcher(Generic[Item, Result]):
    """Runs one batch at a time; whoever gets the device takes all who wait along.

    While a batch runs, new requests gather. The first of them to get the device runs the whole
    gathering as one batch and hands the others their part, so a lone request never waits and 32
    simultaneous ones cost little more than a few. Unlike Gradio's `batch=True`, a request that
    fails cannot spoil its neighbours: when a batch fails, each request is run by itself.
    """

    def __init__(self, run: Callable[[list[Item]], list[Result]], max_items: int = 32) -> None:
        """Batch calls of `run`, which returns one result for each item, in order."""
        self._run = run
        self._max_items = max_items
        self._waiting: list[_Ticket[Item, Result]] = []
        self._mutex = threading.Lock()
        self._device = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Return `run(items)`, computed alone or together with whatever else waits.

        Raises:
            Exception: whatever `run` raised for these items.
        """
        ticket: _Ticket[Item, Result] = _Ticket(items)
        with self._mutex:
            self._waiting.append(ticket)
        with self._device:
            if not ticket.done:
                batch = self._take(ticket)
                if not self._run_together(batch):
                    ticket.results = self._run_in_parts(items)
        return ticket.results

    def _take(self, first: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        """Remove `first` and as many others as fit from those who wait."""
        with self._mutex:
            self._waiting.remove(first)
            batch, size = [first], len(first.items)
            for other in [] if first.alone else list(self._waiting):
                if other.alone:
                    continue
                if size + len(other.items) > self._max_items:
                    break
                self._waiting.remove(other)
                batch.append(other)
                size += len(other.items)
        return batch

    def _run_together(self, batch: list[_Ticket[Item, Result]]) -> bool:
        """Fill the tickets of `batch`; false if nothing was filled but the first must run alone."""
        if len(batch) == 1:
            return False
        try:
            results = self._run_in_parts([item for ticket in batch for item in ticket.items])
        except Exception:  # the culprit is unknown: everybody runs alone, and meets their own
            with self._mutex:
                self._waiting[:0] = batch[1:]
                for ticket in batch:
                    ticket.alone = True
            return False
        start = 0
        for ticket in batch:
            ticket.results = results[start : start + len(ticket.items)]
            ticket.done = True
            start += len(ticket.items)
        return True

    def _run_in_parts(self, items: Sequence[Item]) -> list[Result]:
        results: list[Result] = []
        for start in range(0, len(items), self._max_items):
            results += self._run(list(items[start : start + self._max_items]))
        return results

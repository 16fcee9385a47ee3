"""Micro-batching of concurrent requests to one model."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)  # found by identity: items may be tensors, and equal items are not one request
class _Ticket(Generic[Item, Result]):
    """A waiting request; `alone` after the failure of a batch that contained it."""

    items: Sequence[Item]
    results: list[Result] = field(default_factory=list)
    done: bool = False
    alone: bool = False


class MicroBatcher(Generic[Item, Result]):
    """Batches the requests that wait while another batch runs.

    The first thread that gets the device runs all waiting requests as one batch. If a batch fails,
    each of its requests is run alone, so that a request fails by its own error only.
    """

    def __init__(self, run: Callable[[list[Item]], list[Result]], max_items: int = 32) -> None:
        """Batch calls of `run`, which returns one result for each item, in order."""
        self._run = run
        self._max_items = max_items
        self._waiting: list[_Ticket[Item, Result]] = []
        self._mutex = threading.Lock()
        self._device = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Return `run(items)`, computed with other waiting requests if there are any.

        Raises:
            Exception: the error of `run` for these items.
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
        """Return whether the tickets of `batch` are filled; otherwise the first must run alone."""
        if len(batch) == 1:
            return False
        try:
            results = self._run_in_parts([item for ticket in batch for item in ticket.items])
        except Exception:  # the failing item is unknown: each request runs alone
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

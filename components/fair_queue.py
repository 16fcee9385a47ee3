"""Gradio's queue, in which visitors take turns, and which remembers no more than it needs."""

from collections.abc import Iterable
from typing import Any

from gradio.queueing import Event, Queue

from components.full_queue import answer_when_full
from pipelines.fairness import place_in_line


class FairLine(list[Event]):
    """The requests that wait for one kind of place; a new one stands where it is its turn."""

    def append(self, event: Event) -> None:
        """Let a new request in."""
        visitors = [waiting.session_hash for waiting in self]
        self.insert(place_in_line(visitors, event.session_hash), event)


class FairQueue(Queue):
    """Gradio's queue with fair lines, and without its statistics.

    Gradio itself remembers 10,000 requests and whose they were, and makes tables of them after
    each, for a page that is not served here.
    """

    @classmethod
    def of(cls, queue: Queue) -> "FairQueue":
        """Return a fair queue with the settings of a plain one that nobody has used yet."""
        fair = cls(
            live_updates=queue.live_updates,
            concurrency_count=queue.max_thread_count,
            update_intervals=queue.update_intervals,
            max_size=queue.max_size,
            blocks=queue.blocks,
            default_concurrency_limit=queue.default_concurrency_limit,
        )
        fair.ANALYTICS_MAX_EVENTS = 1
        return fair

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Let a request in; where as many wait as may, in all or of one visitor, tell so."""
        if self.max_size is None:
            return await super().push(body, request, username)
        full, most = len(self) >= self.max_size, max(1, self.max_size // 2)
        if body.fn_index is None or not (full or self._waiting_of(body.session_hash) >= most):
            return await super().push(body, request, username)
        told = (
            f"The queue is full: {self.max_size} requests are waiting, the most that may. Try "
            "again in a minute."
            if full
            else f"The queue is full for you: {most} of your requests are waiting, half of all "
            "that may. Go on when some of them are answered."
        )
        return True, await answer_when_full(self, body, request, username, told), "success"

    def _waiting_of(self, visitor: str | None) -> int:
        """Return how many requests of a visitor wait; of one without a name none does."""
        lines = self.event_queue_per_concurrency_id.values()
        return sum(event.session_hash == visitor for line in lines for event in line.queue)

    def create_event_queue_for_fn(self, block_fn: Any) -> None:
        """Make the line in which requests of a function wait, where there is none yet."""
        super().create_event_queue_for_fn(block_fn)
        place = self.event_queue_per_concurrency_id[block_fn.concurrency_id]
        if not isinstance(place.queue, FairLine):
            place.queue = FairLine(place.queue)

    def compute_analytics_summary(self, records: Iterable[Any]) -> dict[str, Any]:
        """Make no statistics."""
        return self.cached_event_analytics_summary

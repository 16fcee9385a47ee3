"""Services of a running app, built once in `app.py` and handed to every tab and endpoint."""

from dataclasses import dataclass

from pipelines.search.indexes import Indexes
from pipelines.serving.device_queue import DeviceQueue
from pipelines.serving.metrics import Metrics
from pipelines.serving.store import PipelineStore


@dataclass(frozen=True)
class Services:
    """Models, search indexes, the queue of the compute device, and metrics.

    Attributes:
        store: loaded models.
        indexes: the search indexes of all owners.
    """

    store: PipelineStore
    indexes: Indexes

    @classmethod
    def of(cls, store: PipelineStore) -> "Services":
        """Return the services of a store, with the indexes that its settings name."""
        return cls(store, Indexes(store.settings.index_uri))

    @property
    def queue(self) -> DeviceQueue:
        """The queue of the compute device."""
        return self.store.queue

    @property
    def metrics(self) -> Metrics:
        """Counters of requests and models."""
        return self.store.metrics

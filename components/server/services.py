"""Services of a running app, built once in `app.py` and handed to every tab and endpoint."""

from dataclasses import dataclass

from components.server.uploads import Uploads
from pipelines.search.indexes import Indexes
from pipelines.serving.store import PipelineStore


@dataclass(frozen=True)
class Services:
    """Models with the queue of their device and their metrics, and the indexes of all owners."""

    store: PipelineStore
    indexes: Indexes

    @classmethod
    def of(cls, store: PipelineStore) -> "Services":
        """Return the services of a store, with the indexes that its settings name."""
        return cls(store, Indexes(store.settings.index_uri))


class RequestHandlers:
    """Handlers of requests, as methods."""

    def __init__(self, services: Services) -> None:
        self._store, self._indexes = services.store, services.indexes
        self._settings = services.store.settings
        self._uploads = Uploads(self._settings)

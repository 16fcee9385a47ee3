"""What the endpoints of all families share."""

from collections.abc import Callable
from typing import Any

from components.server.services import Services
from components.server.uploads import Uploads

#: A function to publish, and the queue of its requests.
Endpoint = tuple[Callable[..., Any], dict[str, Any]]


class Endpoints:
    """Endpoints of one family, as methods."""

    def __init__(self, services: Services) -> None:
        self._store, self._indexes = services.store, services.indexes
        self._uploads = Uploads(services.store.settings)

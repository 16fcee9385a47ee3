"""A server on this machine for the length of a block, as the fakes of other machines are."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class LocalServer:
    """Serves with `handler`, which finds this object as its `owner`.

    Attributes:
        handler: answers the requests.
        address: of loopback, where it listens.
        lock: for what several requests change.
        closing: set once the server closes.
    """

    handler: type[BaseHTTPRequestHandler]
    address = "127.0.0.1"

    def __enter__(self) -> Self:
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (self.handler,), {"owner": self})
        self._server = _Server((self.address, 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"{self.address}:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, address: Any) -> None:
        """Keep quiet: clients that leave are what is tested."""

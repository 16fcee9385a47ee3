"""Routes beside the page for the owner of a server: `/healthz`, and `/metrics` on request.

Read by programs, and by people who run the server: in English only.
"""

from collections.abc import Callable

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore
from pipelines.serving.work_dir import no_uploads_because


def service_routes(store: PipelineStore, app: gr.Blocks) -> list[Route]:
    """Return the routes `/healthz` and, where the settings ask for it, `/metrics`."""
    routes = [Route("/healthz", _health(store.settings), methods=["GET"])]
    if store.settings.metrics:
        from components.server.prometheus import metrics_handler

        routes.append(Route("/metrics", metrics_handler(store, app), methods=["GET"]))
    return routes


def _health(settings: Settings) -> Callable[[Request], Response]:
    """Return the handler of `/healthz`: 200 while requests can be taken, else 503 and why."""

    def health(request: Request) -> Response:
        reason = no_uploads_because(settings)
        if reason:
            return JSONResponse({"status": "unwell", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok"})

    return health

"""Routes beside the page for the owner of a server: `/healthz`, and `/metrics` on request.

Read by programs, and by people who run the server: in English only.
"""

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.serving.store import PipelineStore
from pipelines.serving.work_dir import no_uploads_because


def service_routes(store: PipelineStore, app: gr.Blocks) -> list[Route]:
    """Return the routes `/healthz` and, where the settings ask for it, `/metrics`.

    `/healthz` gives 200 while requests can be taken, else 503 and why.
    """

    def health(request: Request) -> Response:
        reason = no_uploads_because(store.settings)
        if reason:
            return JSONResponse({"status": "unwell", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok"})

    routes = [Route("/healthz", health, methods=["GET"])]
    if store.settings.metrics:
        from components.server.prometheus import metrics_handler

        routes.append(Route("/metrics", metrics_handler(store, app), methods=["GET"]))
    return routes

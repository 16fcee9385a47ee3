"""What the owner of a server asks it, beside the page: is it well, and how busy is it.

Read by programs, and by people who run the server: in English only.
"""

import time
from collections.abc import Callable, Iterator

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from components.server.gradio_internals import queue_of
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore
from pipelines.serving.work_dir import no_uploads_because

#: What Prometheus reads.
_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

#: A name, what it means, its kind, and the values: (labels, value).
Metric = tuple[str, str, str, list[tuple[dict[str, str], float]]]


def service_routes(store: PipelineStore, app: gr.Blocks) -> list[Route]:
    """Return what is served beside the page: `/healthz`, and `/metrics` where it is asked for."""
    routes = [Route("/healthz", _health(store.settings), methods=["GET"])]
    if store.settings.metrics:
        routes.append(Route("/metrics", _metrics(store, app), methods=["GET"]))
    return routes


def _health(settings: Settings) -> Callable[[Request], Response]:
    """Return the handler of `/healthz`: 200 while requests can be taken, else 503 and why."""

    def health(request: Request) -> Response:
        reason = no_uploads_because(settings)
        if reason:
            return JSONResponse({"status": "unwell", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok"})

    return health


def _metrics(store: PipelineStore, app: gr.Blocks) -> Callable[[Request], Response]:
    """Return the handler of `/metrics`."""
    started = time.time()

    def metrics(request: Request) -> Response:
        text = "".join(_exposed(metric) for metric in _figures(store, app, started))
        return PlainTextResponse(text, media_type=_TEXT_FORMAT)

    return metrics


def _figures(store: PipelineStore, app: gr.Blocks, started: float) -> Iterator[Metric]:
    """Yield what is measured; no label holds anything of a visitor."""
    yield ("seesay_start_time_seconds", "When the app started, Unix time.", "gauge",
           [({}, started)])  # fmt: skip
    yield ("seesay_requests_waiting", "Requests in the queue.", "gauge", [({}, len(queue_of(app)))])
    uses = store.metrics.snapshot()
    yield ("seesay_requests_in_progress", "Requests that use a model now.", "gauge",
           [({"model": key}, use.now) for key, use in uses])  # fmt: skip
    yield ("seesay_requests_total", "Requests that used a model, by how they ended.", "counter",
           [({"model": key, "outcome": outcome}, count)
            for key, use in uses for outcome, count in use.ended])  # fmt: skip
    yield ("seesay_request_seconds_total", "Seconds that requests held a model.", "counter",
           [({"model": key}, use.seconds) for key, use in uses])  # fmt: skip
    yield ("seesay_models_loaded", "Models in memory.", "gauge",
           [({"model": key}, 1) for key in store.loaded_keys()])  # fmt: skip


def _exposed(metric: Metric) -> str:
    """Return a metric in the text format of Prometheus."""
    name, meaning, kind, values = metric
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for labels, value in values:
        inside = ",".join(f'{label}="{said}"' for label, said in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.17g}" if inside else f"{name} {value:.17g}")
    return "\n".join(lines) + "\n"

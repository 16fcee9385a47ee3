"""Metrics of the app in the text format of Prometheus; imported where `--metrics` is on."""

import time
from collections.abc import Callable, Iterator

import gradio as gr
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily as _Counter
from prometheus_client.metrics_core import GaugeMetricFamily as _Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from components.server.gradio_internals import queue_of
from pipelines.serving.store import PipelineStore


def metrics_handler(store: PipelineStore, app: gr.Blocks) -> Callable[[Request], Response]:
    """Return the handler of `/metrics`."""
    registry = CollectorRegistry()  # its own: the default one adds figures of the Python process
    registry.register(_AppCollector(store, app))

    def metrics(request: Request) -> Response:
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return metrics


class _AppCollector(Collector):
    """Current figures of the queue and the models; no label holds anything of a visitor."""

    def __init__(self, store: PipelineStore, app: gr.Blocks) -> None:
        self._store, self._app, self._started = store, app, time.time()

    def collect(self) -> Iterator[Metric]:
        uses, waiting = self._store.metrics.snapshot(), len(queue_of(self._app))
        yield _Gauge("seesay_start_time_seconds", "When the app started, Unix time.", self._started)
        yield _Gauge("seesay_requests_waiting", "Requests in the queue.", waiting)
        now = _Gauge(
            "seesay_requests_in_progress", "Requests that use a model now.", labels=["model"]
        )
        total = _Counter(
            "seesay_requests_total",
            "Requests that used a model, by how they ended.",
            labels=["model", "outcome"],
        )
        seconds = _Counter(
            "seesay_request_seconds_total", "Seconds that requests held a model.", labels=["model"]
        )
        for key, use in uses:
            now.add_metric([key], use.now)
            seconds.add_metric([key], use.seconds)
            for outcome, count in use.ended:
                total.add_metric([key, outcome], count)
        loaded = _Gauge("seesay_models_loaded", "Models in memory.", labels=["model"])
        for key in self._store.loaded_keys():
            loaded.add_metric([key], 1)
        yield from (now, total, seconds, loaded)

"""Prometheus metrics. Each application has a registry of its own; labels never hold what a caller sent."""

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from app.engine.observer import EngineObserver

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """All that is counted."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        model = ["model"]
        self.requests = Counter(
            "precis_requests", "Requests answered; 499: the caller left.", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "precis_request_seconds", "Time to answer.", ["route"], registry=registry, buckets=REQUEST_SECONDS
        )
        self.event_loop_lag_seconds = Histogram(
            "precis_event_loop_lag_seconds",
            "How late the event loop wakes a task that slept.",
            registry=registry,
            buckets=LAG_SECONDS,
        )
        self.queue_texts = Gauge(
            "precis_queue_texts", "Texts waiting; each part of a long text counts.", model, registry=registry
        )
        self.live_rows = Gauge("precis_live_rows", "Decoder rows in use.", model, registry=registry)
        self.slot_occupancy = Gauge("precis_slot_occupancy", "Live rows / all rows.", model, registry=registry)
        self.padding_efficiency = Gauge(
            "precis_padding_efficiency",
            "Source tokens / (texts x longest text) of each joining pass, summed since the start; "
            "before the model rounds shapes up itself.",
            model,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "precis_first_token_seconds",
            "From submission to the first token.",
            model,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        self.token_seconds = Histogram(
            "precis_token_seconds",
            "One decoder step: a token for every live row.",
            model,
            registry=registry,
            buckets=TOKEN_SECONDS,
        )
        self.refused = Counter("precis_refused", "Work that was not admitted.", ["reason"], registry=registry)
        self.cancelled = Counter("precis_cancelled", "Texts whose caller left.", registry=registry)
        self.worker_restarts = Counter("precis_worker_restarts", "Worker threads replaced.", registry=registry)
        for reason in ("queue_full", "draining", "too_large", "deadline"):
            self.refused.labels(reason)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class PrometheusObserver(EngineObserver):
    """Counts what the engine of one model tells."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._queue_texts = metrics.queue_texts.labels(model)
        self._live_rows = metrics.live_rows.labels(model)
        self._slot_occupancy = metrics.slot_occupancy.labels(model)
        self._padding_efficiency = metrics.padding_efficiency.labels(model)
        self._first_token_seconds = metrics.first_token_seconds.labels(model)
        self._token_seconds = metrics.token_seconds.labels(model)
        self._lock = threading.Lock()  # the worker has several threads
        self._real_tokens = 0
        self._padded_tokens = 0

    def queue_changed(self, texts: int) -> None:
        self._queue_texts.set(texts)

    def rows_changed(self, live: int, capacity: int) -> None:
        self._live_rows.set(live)
        self._slot_occupancy.set(live / capacity)

    def encoded(self, real_tokens: int, padded_tokens: int, seconds: float) -> None:
        del seconds  # counted as part of the first token
        with self._lock:
            self._real_tokens += real_tokens
            self._padded_tokens += padded_tokens
            self._padding_efficiency.set(self._real_tokens / max(1, self._padded_tokens))

    def stepped(self, rows: int, seconds: float) -> None:
        if rows:
            self._token_seconds.observe(seconds)

    def first_token(self, seconds: float) -> None:
        self._first_token_seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        self._metrics.refused.labels(reason).inc()

    def cancelled(self) -> None:
        self._metrics.cancelled.inc()

    def worker_restarted(self) -> None:
        self._metrics.worker_restarts.inc()

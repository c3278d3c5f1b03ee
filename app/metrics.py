"""Prometheus metrics. Each application has a registry of its own; labels never hold what a caller sent."""

import threading
from functools import partial
from operator import truediv

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from app.engine.costs import Load
from app.engine.observer import EngineObserver

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """All that is counted."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        gauge = partial(Gauge, labelnames=["model"], registry=registry)
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.ready = Gauge("precis_ready", "1 while work is taken, as /readyz tells.", registry=registry)
        self.deadline_seconds = Gauge(
            "precis_deadline_seconds", "Deadline of a request that names none.", registry=registry
        )
        self.requests = counter("precis_requests", "Requests answered; 499: the caller left.", ["route", "status"])
        self.request_seconds = histogram(
            "precis_request_seconds", "Time to answer.", ["route"], buckets=REQUEST_SECONDS
        )
        self.queue_texts = gauge("precis_queue_texts", "Texts waiting; each part of a long text counts.")
        self.queue_tokens = gauge("precis_queue_tokens", "Source tokens waiting to be encoded.")
        self.queue_rows = gauge("precis_queue_rows", "Decoder rows that those who wait need.")
        self.queue_bytes = gauge("precis_queue_bytes", "Memory that waiting texts hold, about.")
        self.queue_fill = gauge(
            "precis_queue_fill", "The fullest of the queue's limits (texts, tokens, rows, bytes); at 1 it refuses."
        )
        self.expected_wait = gauge(
            "precis_expected_wait_seconds", "Until a newcomer would join, by the measured costs."
        )
        self.event_loop_lag_seconds = histogram(
            "precis_event_loop_lag_seconds", "How late the event loop wakes a task that slept.", buckets=LAG_SECONDS
        )
        self.live_rows = gauge("precis_live_rows", "Decoder rows in use.")
        self.slot_occupancy = gauge("precis_slot_occupancy", "Live rows / all rows.")
        self.padding_efficiency = gauge(
            "precis_padding_efficiency",
            "Source tokens / positions that the encoder computed for them, summed since the start.",
        )
        self.first_token_seconds = histogram(
            "precis_first_token_seconds", "From submission to the first token.", ["model"], buckets=REQUEST_SECONDS
        )
        self.token_seconds = histogram(
            "precis_token_seconds", "One decoder step: a token for every live row.", ["model"], buckets=TOKEN_SECONDS
        )
        self.worker_seconds = counter(
            "precis_worker_seconds", "Time of all the worker's lanes, by what they did.", ["model", "phase"]
        )
        self.refused = counter("precis_refused", "Work that was not admitted, or not in time.", ["reason"])
        self.cancelled = counter("precis_cancelled", "Texts whose caller left.")
        self.worker_restarts = counter("precis_worker_restarts", "Lanes of the worker that died and were replaced.")
        for reason in ("queue_full", "draining", "too_large", "deadline", "key_limit"):
            self.refused.labels(reason)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class PrometheusObserver(EngineObserver):
    """Counts what the engine of one model tells; `limits` are those of its queue."""

    def __init__(self, metrics: Metrics, model: str, limits: Load) -> None:
        self._metrics = metrics
        self._limits = limits
        self._queue = [
            gauge.labels(model)
            for gauge in (metrics.queue_texts, metrics.queue_tokens, metrics.queue_rows, metrics.queue_bytes)
        ]
        self._queue_fill = metrics.queue_fill.labels(model)
        self._expected_wait = metrics.expected_wait.labels(model)
        self._live_rows = metrics.live_rows.labels(model)
        self._slot_occupancy = metrics.slot_occupancy.labels(model)
        self._padding_efficiency = metrics.padding_efficiency.labels(model)
        self._first_token_seconds = metrics.first_token_seconds.labels(model)
        self._token_seconds = metrics.token_seconds.labels(model)
        self._encode_seconds = metrics.worker_seconds.labels(model, "encode")
        self._decode_seconds = metrics.worker_seconds.labels(model, "decode")
        self._lock = threading.Lock()  # the worker has a thread for each lane
        self._real_tokens = 0
        self._padded_tokens = 0

    def queue_changed(self, waiting: Load, expected_wait: float) -> None:
        for gauge, value in zip(self._queue, waiting.values, strict=True):
            gauge.set(value)
        self._queue_fill.set(max(map(truediv, waiting.values, self._limits.values)))
        self._expected_wait.set(expected_wait)

    def rows_changed(self, live: int, capacity: int) -> None:
        self._live_rows.set(live)
        self._slot_occupancy.set(live / capacity)

    def encoded(self, real_tokens: int, padded_tokens: int, seconds: float) -> None:
        self._encode_seconds.inc(seconds)
        with self._lock:
            self._real_tokens += real_tokens
            self._padded_tokens += padded_tokens
            self._padding_efficiency.set(self._real_tokens / max(1, self._padded_tokens))

    def stepped(self, rows: int, seconds: float) -> None:
        if rows:
            self._token_seconds.observe(seconds)
            self._decode_seconds.inc(seconds)

    def first_token(self, seconds: float) -> None:
        self._first_token_seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        self._metrics.refused.labels(reason).inc()

    def cancelled(self) -> None:
        self._metrics.cancelled.inc()

    def worker_restarted(self) -> None:
        self._metrics.worker_restarts.inc()

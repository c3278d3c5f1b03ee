"""`serve run app.ray_serve:app`: the service on Ray Serve, with an engine of its own in each replica.

The application is the one that `python -m app` serves, with the same settings. What `app.server` does alone, Ray does
here: its proxies accept connections and choose a replica, its controller starts, watches and stops them.
"""

import asyncio
import gc
import math
import os
import random
import time
from typing import Any

import ray
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import BackpressureConfig, RequestRouterConfig
from ray.serve.metrics import Gauge
from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings, let_waiting_threads_sleep, load_settings
from app.engine import forks
from app.errors import CheckpointError
from app.logs import configure_logs

LOOK_SECONDS = 0.05  # between two looks at a model that is being loaded
CHECK_SECONDS = 2.0  # between two of Ray's looks at a replica: so soon a dead one is replaced
PATIENCE_SECONDS = 30.0  # with one that is not ready: what runs its model may be starting anew
STOP_SECONDS = 5.0  # that an engine takes to stop, with nothing left to do
RETRY_AFTER = 5  # seconds; where no replica could be asked
HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"  # Ray's own variable, of all its processes: HAProxy instead of its own proxies


class Replica:
    """One service in a process of Ray's. It takes traffic when its default model is loaded."""

    app: FastAPI  # Ray keeps it there

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last_ready = -math.inf
        self._metrics = Metrics()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray, once, in the event loop that the application will have."""
        settings = within(self._settings)
        configure_logs(settings)
        let_waiting_threads_sleep()
        if settings.device in ("auto", "cpu"):
            forks.begin()
        app = self.create(settings)
        app.add_middleware(Unnamed)
        app.add_middleware(Departing)
        return app

    def create(self, settings: Settings) -> FastAPI:
        # Only here: whoever asks Ray for replicas needs no model's libraries.
        from app.main import create_app
        from app.server import COLLECT_AFTER

        gc.set_threshold(*COLLECT_AFTER)
        return create_app(settings)

    async def check_health(self) -> None:
        """As /readyz, but patient: it waits while the model is loaded. Raises why this replica can serve nobody.

        Ray calls it before it sends anybody, and then every few seconds: after three failures another takes its place.
        """
        from app.api.threads import limit_threads

        limit_threads()  # Ray allows as many as there may be requests, whenever it hands a configuration on
        service = self.app.state.service
        self._metrics.pass_on(service.metrics.registry)
        while service.loading and not service.ready and service.failure is None:  # noqa: ASYNC110  # a thread loads it
            await asyncio.sleep(LOOK_SECONDS)
        if service.failure is not None:
            raise CheckpointError(service.failure)
        if service.ready:
            self._last_ready = time.monotonic()
        elif time.monotonic() - self._last_ready > PATIENCE_SECONDS:
            service.check_ready()


class Metrics:
    """Ours among Ray's, whose endpoint on each node tells of all replicas there: as `ray_precis_...`, gauges all."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def pass_on(self, registry: CollectorRegistry) -> None:
        for family in registry.collect():
            for sample in family.samples:
                if sample.name.startswith("precis_") and not sample.name.endswith("_created"):
                    if sample.name not in self._gauges:
                        self._gauges[sample.name] = Gauge(sample.name, family.documentation, tuple(sample.labels))
                    self._gauges[sample.name].set(sample.value, sample.labels)


class Unnamed:
    """Takes the request's id off every answer: Ray has named the request for us, and will name the answer after it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unnamed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message["headers"] if header[0] != b"x-request-id"]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_unnamed)


class Departing:
    """Has a caller leave in the one way that the application knows.

    Ray cancels a request whose caller has left, and with it the call that would have told so: whichever comes first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_or_leave() -> Message:
            try:
                return await receive()
            except RayError:  # or the proxy is gone, and its callers with it
                return {"type": "http.disconnect"}

        await self.app(scope, receive_or_leave, send)


class Anywhere(FIFOMixin, RequestRouter):
    """The one of two replicas that has less to do, on whatever node: a proxy chooses. Needs the package on its node.

    Ray's own choice asks replicas elsewhere only when those beside the proxy take no more, and ours take very many.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # before it is asked again, where neither takes it
        return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]


def within(settings: Settings) -> Settings:
    """No more cores than Ray has given to this process: nothing else keeps it from the others."""
    assigned = ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)
    return settings.model_copy(update={"cores": settings.cores or max(1, int(assigned))})


def app(chosen: dict[str, Any]) -> serve.Application:
    """What `serve run` and a Serve config file name; `chosen` are settings that go before the environment's."""
    settings = load_settings(**chosen)
    return deployment(settings).bind(settings)


def deployment(settings: Settings, replica: type[Replica] = Replica) -> serve.Deployment:
    """A replica refuses by itself what is too much. Ray's own limits are for what finds none to ask."""
    return serve.deployment(
        serve.ingress()(replica),
        name="precis",
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=settings.max_connections,
        max_queued_requests=settings.max_connections,
        request_router_config=_router(),
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_AFTER),
        health_check_period_s=CHECK_SECONDS,
        graceful_shutdown_timeout_s=settings.drain_seconds + STOP_SECONDS,
        logging_config={"enable_access_log": False},  # the application logs every request
    )


def _router() -> RequestRouterConfig:
    """HAProxy chooses by itself, by the same measure; Ray takes no other router beside it."""
    if os.environ.get(HAPROXY) == "1":
        return RequestRouterConfig()
    return RequestRouterConfig(request_router_class=f"{__name__}.{Anywhere.__name__}")

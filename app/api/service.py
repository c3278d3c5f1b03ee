"""The engines by model name, and whether work is taken."""

import asyncio
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from app.api.line import Line
from app.api.problems import printable
from app.api.room import Room
from app.api.threads import in_own_thread
from app.config import Settings
from app.engine.engine import Engine
from app.errors import DrainingError, ModelNotFoundError, OverloadedError
from app.metrics import Metrics

LARGE_ANSWERS_AT_ONCE = 2  # answers with attention that are written at once: each may take hundreds of megabytes
LOADING_RETRY_AFTER = 5  # seconds; nothing is measured yet
SMALL_BODY = 64 * 1024  # bytes that every caller may send, however many large bodies there are
REFUSALS = {
    "connections": "There are more connections than this service takes.",
    "busy": "More requests come than can even be read.",
    "bodies": "So many large requests are being received that there is no room for this one.",
}


class Service:
    """What the routes work with. Engines are added by the thread that loads them, read by the event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.loading = True
        self.draining = False
        self.failure: str | None = None  # why the default model cannot be served
        self.bodies = Room(settings.max_transit_mb << 20, SMALL_BODY)
        self.huge_bodies = asyncio.Semaphore(1)
        self.large_answers = asyncio.Semaphore(LARGE_ANSWERS_AT_ONCE)
        self.line = Line()
        self._engines: dict[str, Engine] = {}
        self._to_drain: list[Engine] = []
        metrics.ready.set_function(lambda: self.ready)
        metrics.deadline_seconds.set(settings.timeout_ms / 1000)

    @property
    def engines(self) -> dict[str, Engine]:
        return self._engines

    @property
    def ready(self) -> bool:
        default = self._engines.get(self.settings.model)
        return default is not None and default.ready and not self.draining

    def refusal(self, reason: str) -> OverloadedError:
        """Why one of `REFUSALS` cannot be served; counted."""
        self.metrics.refused.labels(reason).inc()
        engine = self._engines.get(self.settings.model)
        return OverloadedError(REFUSALS[reason], engine.retry_after() if engine else LOADING_RETRY_AFTER)

    def add(self, engine: Engine) -> None:
        """Start an engine and serve it, instead of one of the same name that is to be retired.

        The table is replaced, never changed, so that readers need no lock.
        """
        engine.start()
        self._to_drain.append(engine)
        self._engines = {**self._engines, engine.info.name: engine}

    def forget(self, engine: Engine) -> None:
        """One that another took the place of, and that has nothing more to answer."""
        if engine in self._to_drain:
            self._to_drain.remove(engine)

    def engine(self, name: str | None) -> Engine:
        """The engine of a model, or of the default one, for new work."""
        wanted = name or self.settings.model
        engine = self._engines.get(wanted)
        if self.draining:
            raise self._refused("the service is stopping", engine.retry_after() if engine else LOADING_RETRY_AFTER)
        if engine is not None:
            return engine
        if self.loading:
            raise self._refused(f"model {printable(wanted)!r} is not loaded yet", LOADING_RETRY_AFTER)
        raise ModelNotFoundError(f"there is no model {printable(wanted)!r}; GET /models lists those there are")

    def find(self, name: str) -> Engine:
        """The engine of a model, to tell of it: also while the service is stopping."""
        return self._engines.get(name) or self.engine(name)

    def check_ready(self) -> None:
        if not self.ready:
            raise DrainingError(f"the service is {'stopping' if self.draining else 'not ready'}", LOADING_RETRY_AFTER)

    async def drain(self) -> None:
        """Refuse new work at once; return when everything admitted is answered, or when the grace is over."""
        self.draining = True
        engines, self._to_drain = self._to_drain, []
        await asyncio.gather(*(in_own_thread(engine.drain, self.settings.drain_seconds) for engine in engines))

    def _refused(self, reason: str, retry_after: int) -> DrainingError:
        self.metrics.refused.labels("draining").inc()
        return DrainingError(reason, retry_after)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _service(request: Request) -> Service:
    return service_of(request)  # the framework would call a function that is not async in a thread


ServiceDep = Annotated[Service, Depends(_service)]

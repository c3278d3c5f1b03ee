"""A checkpoint takes the place of another one while requests are answered.

The new one is loaded beside the old and tried. From then on new work is its own; what the old one has admitted it
answers itself, and then it goes. Whatever goes wrong before leaves everything as it was.
"""

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends
from starlette.requests import Request

from app.api.service import Service
from app.api.threads import in_own_thread
from app.config import LONGEST_TIMEOUT_MS
from app.engine.engine import Engine
from app.engine.settling import settle_again
from app.errors import PrecisError, ReloadFailedError, ReloadRunningError, in_one_line

ResultT = TypeVar("ResultT")
# The engine of a checkpoint in the store, started; None where its digest is the given one. Raises what is wrong.
TakeUp = Callable[[str, str | None], Engine | None]
LOADING_POLL_SECONDS = 0.1
HELD_SECONDS = 0.1, 0.3, 1  # after that, the next reload finds it
log = structlog.get_logger("precis")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What is served now, what was served before, and how long it took."""

    name: str
    digest: str
    previous: str | None
    seconds: float

    @property
    def changed(self) -> bool:
        return self.digest != self.previous


class Reloads:
    """Of one service; everything here runs in its event loop."""

    def __init__(self, service: Service, names: Callable[[], list[str]], take_up: TakeUp) -> None:
        """names: of the checkpoints in the store."""
        self._service = service
        self._names = names
        self._take_up = take_up
        self._turn = asyncio.Lock()  # one is loaded at a time: each needs memory, and time of the processor
        self._running: dict[str, asyncio.Task[Any]] = {}  # by model, from the beginning until the old one has gone
        self._all: asyncio.Task[None] | None = None
        self._again = False

    def begin_all(self) -> None:
        """Everything in the store, one after the other, told in the log; asked for meanwhile, once more after that."""
        self._again = True
        if self._all is None or self._all.done():
            self._all = asyncio.create_task(self._reload_all())

    async def reload(self, name: str) -> Reloaded:
        """One model, also one that is new in the store. It goes on when nobody waits for it any more.

        Raises ReloadFailedError, and everything is as it was; ReloadRunningError, ModelNotFoundError, DrainingError.
        """
        if self._service.loading or self._service.draining or not await self._is_known(name):
            self._service.engine(name)  # raises
        if name in self._running:
            detail = f"model {name!r} is being reloaded, or its old checkpoint still answers what it had; try again"
            raise ReloadRunningError(detail)
        return await asyncio.shield(self._track(name, self._replace(name)))

    async def close(self, patience: float) -> None:
        """Wait for what is running, so long at most."""
        tasks = [*self._running.values(), *([self._all] if self._all else [])]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)

    async def _is_known(self, name: str) -> bool:
        return name in self._service.engines or name in await in_own_thread(self._names)

    async def _reload_all(self) -> None:
        while self._again:
            self._again = False
            while self._service.loading and not self._service.draining:  # noqa: ASYNC110  # by a thread, which may fail
                await asyncio.sleep(LOADING_POLL_SECONDS)
            names = await in_own_thread(self._names)
            for name in sorted({*names, *self._service.engines}):
                await self._finished(name)
                if name not in names:
                    log.warning("model is not in the store any more, and served all the same", model=name)
                    continue
                with suppress(Exception):  # the log tells it
                    await self.reload(name)
                await self._finished(name)

    async def _finished(self, name: str) -> None:
        while task := self._running.get(name):
            await asyncio.wait({task})

    async def _replace(self, name: str) -> Reloaded:
        started, old = time.perf_counter(), self._service.engines.get(name)
        previous = old.info.digest if old else None
        try:
            async with self._turn:
                engine = await in_own_thread(self._take_up, name, previous)
        except Exception as error:
            self._service.metrics.reloads.labels("failed").inc()
            log.error("reload failed", model=name, reason=in_one_line(error), served=previous)
            if not isinstance(error, PrecisError):
                raise
            still = f"{previous} is served as before" if previous else "it is not served"
            raise ReloadFailedError(f"{in_one_line(error)}; {still}") from error
        if engine is not None:
            await self._serve(engine, instead_of=old)
        found = engine or old
        assert found is not None  # there is no digest that a new one could have in common with nothing
        reloaded = Reloaded(name, found.info.digest, previous, round(time.perf_counter() - started, 3))
        outcome = "changed" if reloaded.changed else "unchanged"
        self._service.metrics.reloads.labels(outcome).inc()
        log.info(f"reload {outcome}", model=name, digest=reloaded.digest, previous=previous, seconds=reloaded.seconds)
        return reloaded

    async def _serve(self, engine: Engine, instead_of: Engine | None) -> None:
        if self._service.draining:
            await in_own_thread(engine.drain, 0.0)
            self._service.check_ready()  # raises
        self._service.add(engine)
        if instead_of is not None:
            self._track(engine.info.name, self._retire(instead_of))

    async def _retire(self, engine: Engine) -> None:
        """Those who have found it and not yet handed it their work will find the new one."""
        await in_own_thread(engine.retire, LONGEST_TIMEOUT_MS / 1000)  # what it has admitted is late by then
        self._service.forget(engine)
        name, digest, gone = engine.info.name, engine.info.digest, weakref.ref(engine)
        del engine
        for pause in HELD_SECONDS:
            held = gone() is not None  # by the thread that retired it, or by one that still writes its last answer
            await in_own_thread(settle_again)
            if not held:
                break
            await asyncio.sleep(pause)
        log.info("model unloaded", model=name, digest=digest)

    def _track(self, name: str, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        task = asyncio.create_task(work)
        self._running[name] = task

        def over(_: object) -> None:
            if self._running.get(name) is task:  # otherwise another one goes on where this one ended
                del self._running[name]

        task.add_done_callback(over)
        return task


async def _reloads(request: Request) -> Reloads:
    reloads: Reloads = request.app.state.reloads
    return reloads  # the framework would call a function that is not async in a thread


ReloadsDep = Annotated[Reloads, Depends(_reloads)]

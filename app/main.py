"""Assembly: settings -> models -> engines -> routes. Nothing is loaded at import; everything is passed in."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from app import __version__
from app.api import admin, catalog, docs, huggingface, operations, page, summaries
from app.api.access import CORS, Access
from app.api.lag import watched
from app.api.limits import Limiter
from app.api.middleware import Envelope
from app.api.openapi import DESCRIPTION, SERVERS, TAGS
from app.api.problems import answer_error
from app.api.reloads import Reloads
from app.api.service import Service
from app.api.threads import limit_threads
from app.api.tracing import Tracing, open_tracing
from app.config import Settings
from app.engine.costs import Load
from app.engine.engine import Engine, threads_for
from app.engine.process import ProcessLanes
from app.engine.settling import settle
from app.engine.trial import try_out
from app.engine.zygote import LoadModel
from app.errors import CheckpointError, RequestError, in_one_line
from app.keys import open_keys
from app.metrics import Metrics, PrometheusObserver
from app.models import registry
from app.models.base import Seq2SeqModel
from app.models.checkpoint import verify

ROWS_ON_CPU, ROWS_ON_GPU = 64, 256
TELEMETRY_OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
log = structlog.get_logger("precis")


def create_app(settings: Settings, *, models: Sequence[Seq2SeqModel] | None = None) -> FastAPI:
    """The application. `models` are served as they are; without them, all of the model store is loaded at start-up."""
    service, tracing = Service(settings, Metrics()), open_tracing(os.environ)
    reloads = _reloads(service, models)
    app = FastAPI(
        title="Precis",
        version=__version__,
        summary="Summaries, and the attention behind them.",
        description=DESCRIPTION,
        servers=SERVERS,
        openapi_tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=_lifespan(service, reloads, tracing, models),
        exception_handlers=dict.fromkeys((RequestError, HTTPException), answer_error),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=TELEMETRY_OFF,
    )
    app.state.service, app.state.reloads = service, reloads
    for router in (
        summaries.router,
        summaries.batch_router,
        catalog.router,
        huggingface.router,
        operations.router,
        admin.router,
        docs.router,
        page.router,
    ):
        app.include_router(router)
    # The last one is the outermost.
    public = docs.PATHS | page.PATHS if settings.public_pages else frozenset[str]()
    keys = open_keys(settings.api_keys, settings.api_keys_file)
    app.add_middleware(Access, keys=keys, limiter=Limiter(settings.limits_storage), public=public)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, **CORS)
    app.add_middleware(Envelope, service=service, tracing=tracing)
    return app


def _reloads(service: Service, models: Sequence[Seq2SeqModel] | None) -> Reloads:
    """From the model store; of models that were given there are no others."""
    if models is not None:
        return Reloads(service, lambda: [model.info.name for model in models], lambda _name, _digest: None)
    return Reloads(service, partial(registry.available, service.settings.model_store), partial(take_up, service))


def _lifespan(
    service: Service, reloads: Reloads, tracing: Tracing | None, models: Sequence[Seq2SeqModel] | None
) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        limit_threads()
        loading = threading.Thread(target=load_store, args=(service,), name="precis-load", daemon=True)
        if models is None:
            loading.start()
        else:
            serve_models(service, models)
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloads.begin_all)
        async with watched(service.metrics.event_loop_lag_seconds.observe):
            yield
        await service.drain()
        await reloads.close(service.settings.drain_seconds)
        if tracing is not None:
            await run_in_threadpool(tracing.close)
        if models is None:  # a thread inside a native library must not be torn down with the interpreter
            await run_in_threadpool(loading.join, service.settings.drain_seconds)
            await service.drain()  # what came to be served just when it was asked to stop

    return lifespan


def serve_models(service: Service, models: Sequence[Seq2SeqModel]) -> None:
    for model in models:
        service.add(build_engine(model, service))
    service.loading = False


def load_store(service: Service) -> None:
    """Load every checkpoint of the store, the default one first. Runs in a thread of its own, while /livez answers.

    Without the default one there is no service; another one that is broken is left out.
    """
    settings = service.settings
    reason = _load(service, settings.model)
    if reason is not None:
        service.failure = f"cannot load the default model {settings.model!r} from {settings.model_store}: {reason}"
        return
    for name in registry.available(settings.model_store):
        if service.draining:
            return
        if name != settings.model and (reason := _load(service, name)) is not None:
            log.error("model left out", model=name, reason=reason)
    service.loading = False


def build_engine(model: Seq2SeqModel, service: Service, load: LoadModel | None = None) -> Engine:
    """With `load`, which loads the same model anew, the lanes of a CPU run in processes."""
    settings, info = service.settings, model.info
    max_rows = settings.max_rows or (ROWS_ON_CPU if info.device == "cpu" else ROWS_ON_GPU)
    limits = Load(settings.max_queue, settings.max_queue_tokens, settings.max_queue_rows, settings.max_queue_mb << 20)
    threads = threads_for(info, max_rows, settings.cores)
    lanes = None
    if load and info.device == "cpu":
        lanes = ProcessLanes(load, model, max_rows // threads)
        lanes.prepare(threads)
    return Engine(
        model,
        max_rows=max_rows,
        max_queue=settings.max_queue,
        max_queue_tokens=limits.tokens,
        max_queue_rows=limits.rows,
        max_queue_bytes=limits.bytes,
        observer=PrometheusObserver(service.metrics, info.name, limits),
        threads=threads,
        open_lane=lanes,
    )


def _load(service: Service, name: str) -> str | None:
    """Load and serve one checkpoint; the reason when that is impossible."""
    started = time.perf_counter()
    try:
        engine = open_engine(service, name)
    except Exception as error:  # whatever a damaged file makes a library raise, start-up must end with one line
        return in_one_line(error)
    if service.draining:
        engine.drain(grace=0.0)
        return None
    service.add(engine)
    seconds = round(time.perf_counter() - started, 2)
    info = engine.info
    facts = {"digest": info.digest, "device": info.device, "precision": info.precision, "seconds": seconds}
    log.info("model loaded", model=name, **facts)
    return None


def take_up(service: Service, name: str, known: str | None) -> Engine | None:
    """The engine of a checkpoint in the store whose files are as its manifest says; None for the known digest."""
    return None if verify(service.settings.model_store / name) == known else open_engine(service, name)


def open_engine(service: Service, name: str) -> Engine:
    """Load one checkpoint, start its engine and try it. Raises whatever is the matter."""
    settings = service.settings
    load = partial(registry.load, settings.model_store, name, device=settings.device, precision=settings.precision)
    model = load()
    engine = build_engine(model, service, load)
    try:
        engine.start()
        try_out(engine)
        if verify(settings.model_store / name) != model.info.digest:
            raise CheckpointError(f"{settings.model_store / name}: changed while it was loaded; load it again")
    except BaseException:
        engine.drain(grace=0.0)
        raise
    settle()
    return engine

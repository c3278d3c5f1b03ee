"""The routes for those who run the service."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from app.api.body import StrictRoute
from app.api.openapi import errors
from app.api.responses import json_response
from app.api.service import ServiceDep
from app.examples import METRICS
from app.schemas import Health

router = APIRouter(route_class=StrictRoute, tags=["Operations"])
WELL = {"status": "ok"}


@router.get(
    "/livez",
    operation_id="is_alive",
    summary="Is the process alive?",
    response_model=Health,
    response_description="It is.",
    responses=errors(),
)
async def is_alive() -> Response:
    """200 while the process lives, whatever else is the matter."""
    return json_response(WELL)


@router.get(
    "/health",
    operation_id="is_healthy",
    summary="The same as /readyz",
    response_model=Health,
    response_description="It is.",
    responses=errors(503),
)
@router.get(
    "/readyz",
    operation_id="is_ready",
    summary="Is work taken?",
    response_model=Health,
    response_description="It is.",
    responses=errors(503),
)
async def is_ready(service: ServiceDep) -> Response:
    """200 when the default model is loaded and its worker steps; 503 while loading and while stopping."""
    service.check_ready()
    return json_response(WELL)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    response_description="The metrics.",
    responses={200: {"content": {"text/plain": {"example": METRICS}}}, **errors()},
)
async def get_metrics(service: ServiceDep) -> Response:
    """Counters, gauges and histograms in the text format of Prometheus."""
    exposition = await run_in_threadpool(service.metrics.exposition)
    return Response(exposition, headers={"Content-Type": CONTENT_TYPE_LATEST})

"""The routes that tell of the models."""

from fastapi import APIRouter
from starlette.responses import Response

from app.api.body import StrictRoute
from app.api.openapi import ModelName, errors
from app.api.responses import json_response, model_json
from app.api.service import ServiceDep
from app.schemas import Model, ModelList

router = APIRouter(route_class=StrictRoute, tags=["Models"])


@router.get(
    "/models",
    operation_id="list_models",
    summary="List the models",
    response_model=ModelList,
    response_description="The models.",
    responses=errors(),
)
async def list_models(service: ServiceDep) -> Response:
    """Every model that is loaded: its family, limits, default parameters and card."""
    models = [model_json(engine.info) for engine in service.engines.values()]
    return json_response({"default": service.settings.model, "models": models})


@router.get(
    "/models/{name}",
    operation_id="get_model",
    summary="Tell of one model",
    response_model=Model,
    response_description="The model.",
    responses=errors(404, 503),
)
async def get_model(name: ModelName, service: ServiceDep) -> Response:
    """Family, limits, default parameters and card of one model."""
    return json_response(model_json(service.find(name).info))

"""The routes for administrators. That only they are let in is looked after in one place, by the tag."""

from fastapi import APIRouter
from starlette.responses import Response

from app.api.body import StrictRoute
from app.api.openapi import ModelName, errors
from app.api.reloads import ReloadsDep
from app.api.responses import json_response
from app.schemas import Reload

router = APIRouter(route_class=StrictRoute, tags=["Administration"])


@router.post(
    "/models/{name}/reload",
    operation_id="reload_model",
    summary="Take up a new checkpoint",
    response_model=Reload,
    response_description="What is served now.",
    responses=errors(404, 409, 503),
)
async def reload_model(name: ModelName, reloads: ReloadsDep) -> Response:
    """Loads what the model store holds under this name beside what is served, tries it, and serves it instead, while
    every request is answered. When it cannot be served the answer is 422, says why, and everything is as it was."""
    reloaded = await reloads.reload(name)
    content = {
        "name": reloaded.name,
        "digest": reloaded.digest,
        "changed": reloaded.changed,
        "seconds": reloaded.seconds,
    }
    previous = {"previous_digest": reloaded.previous} if reloaded.previous else {}
    return json_response(content | previous)

"""The OpenAPI document and its page. Everything comes from this host, nothing runs that is not in a file."""

from importlib.resources import files

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from app.api.body import StrictRoute
from app.api.openapi import completed

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

# React sets style attributes, which a policy without 'unsafe-inline' still allows from scripts; the images are in the
# style sheet, as data.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Precis API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<main id="page"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""
STYLE, SCRIPT = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
SWAGGER_UI = files("fastapi_offline") / "static"


def _assets() -> dict[str, tuple[bytes, str]]:
    return {
        "start.js": (START.encode(), SCRIPT),
        "swagger-ui.css": ((SWAGGER_UI / "swagger-ui.css").read_bytes(), STYLE),
        "swagger-ui-bundle.js": ((SWAGGER_UI / "swagger-ui-bundle.js").read_bytes(), SCRIPT),
    }


ASSETS = _assets()
PATHS = frozenset({"/docs", "/openapi.json", *(f"/docs/{name}" for name in ASSETS)})


@router.get("/openapi.json")
async def get_document(request: Request) -> Response:
    document = await run_in_threadpool(request.app.openapi)  # the first time that takes a tenth of a second
    return Response(orjson.dumps(completed(document)), media_type="application/json")


@router.get("/docs")
async def get_page() -> Response:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/{name}")
async def get_asset(name: str) -> Response:
    if name not in ASSETS:
        raise HTTPException(404)
    content, media_type = ASSETS[name]
    return Response(content, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})

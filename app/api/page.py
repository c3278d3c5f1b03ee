"""The web page. Everything comes from this host and from files of the package; nothing runs that is not in a file."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.body import StrictRoute
from app.api.service import ServiceDep

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

# With trusted types the browser itself refuses to read any text as HTML.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, and the headers it is sent with."""

    content: bytes
    headers: dict[str, str]


def _asset(name: str, content: bytes) -> Asset:
    headers = {
        "Content-Type": MEDIA_TYPES[name.rpartition(".")[2]],
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",  # kept, but asked for again, so that the parts of a new version come together
        "Content-Security-Policy": POLICY,
    }
    return Asset(content, headers)


FOLDER = files("app") / "web"
ASSETS = {file.name: _asset(file.name, file.read_bytes()) for file in FOLDER.iterdir()}
PAGE = ASSETS.pop("index.html")
PATHS = frozenset({"/", *(f"/page/{name}" for name in ASSETS)})


@router.get("/")
async def get_page(request: Request, service: ServiceDep) -> Response:
    return _answer(PAGE if service.settings.web_page else None, request)


@router.get("/page/{name}")
async def get_asset(name: str, request: Request, service: ServiceDep) -> Response:
    return _answer(ASSETS.get(name) if service.settings.web_page else None, request)


def _answer(asset: Asset | None, request: Request) -> Response:
    if asset is None:
        raise HTTPException(404)
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if asset.headers["ETag"] in known:
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.content, headers=asset.headers)

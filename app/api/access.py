"""Who may ask for what. Decided before a route is looked for and before a body is read.

With API keys on, everything wants one, found or not, but for the health of the process and what is public. Without them
everything may be asked for but what is for administrators.
"""

from collections.abc import Iterator, Set
from re import Pattern
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.limits import Allowance, Limiter
from app.api.problems import respond
from app.api.record import Record
from app.errors import ForbiddenError, RequestError, UnauthorizedError
from app.keys import Key, Keys

HEALTH = frozenset({"/livez", "/readyz", "/health"})
ADMINISTRATION = "Administration"  # the tag of what only administrators may do
# What scripts of other web sites may send and read. No cookies: what counts is a key, and they have none by themselves.
CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", "X-Request-ID", "traceparent", "tracestate"],
    "expose_headers": ["X-Request-ID", "Server-Timing", "Retry-After", "RateLimit", "RateLimit-Policy"],
}
UNKNOWN = "send an API key that counts here, in the header 'Authorization: Bearer KEY'"
FOR_ADMINISTRATORS = "this is for administrators, and the key that was sent is a user's"
KEYS_ARE_OFF = (
    "this is for administrators, and API keys are off: 'precis keys new NAME --admin' makes one, and the setting "
    "PRECIS_API_KEYS_FILE turns them on. Without keys, sending SIGHUP to the process reloads its models"
)


class Access:
    """Lets a request in, or answers it with 401, 403 or 429. `public` are paths that may be read without a key."""

    def __init__(self, app: ASGIApp, keys: Keys | None, limiter: Limiter, public: Set[str]) -> None:
        self.app = app
        self.keys = keys
        self.limiter = limiter
        self.public = HEALTH | public
        self._administration: list[tuple[str, Pattern[str]]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                key = self._checked(scope)
                if key is not None:
                    await self._count(scope, key)
            except RequestError as error:
                await respond(Request(scope), error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _checked(self, scope: Scope) -> Key | None:
        """The key that was sent, None where none is wanted. Raises why the request may not go on."""
        for_administrators = self._is_administration(scope)
        if self.keys is None:
            if for_administrators:
                raise ForbiddenError(KEYS_ARE_OFF)
            return None
        if scope["method"] == "GET" and scope["path"] in self.public:
            return None
        sent = _sent(scope)
        key = self.keys.find(sent) if sent else None
        if key is None:
            raise UnauthorizedError(UNKNOWN)
        _record(scope).key = key.name
        if for_administrators and not key.admin:
            raise ForbiddenError(FOR_ADMINISTRATORS)
        return key

    async def _count(self, scope: Scope, key: Key) -> None:
        if key.requests is not None or key.characters is not None:
            _record(scope).allowance = allowance = Allowance(key, self.limiter)
            await allowance.take(requests=1)

    def _is_administration(self, scope: Scope) -> bool:
        if self._administration is None:  # only now are all routes there
            self._administration = list(_administration(scope["app"]))
        for method, pattern in self._administration:
            if method == scope["method"] and pattern.match(scope["path"]):
                return True
        return False


def _administration(app: FastAPI) -> Iterator[tuple[str, Pattern[str]]]:
    """Method and path of every route that is for administrators."""
    for context in iter_route_contexts(app.routes):
        if ADMINISTRATION in getattr(context, "tags", ()):
            yield from ((method, compile_path(str(context.path))[0]) for method in context.methods or ())


def _record(scope: Scope) -> Record:
    record: Record = scope["state"]["record"]
    return record


def _sent(scope: Scope) -> bytes:
    """The key in the header, or nothing."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = header.partition(b" ")
    return bytes(key.strip()) if scheme.lower() == b"bearer" else b""

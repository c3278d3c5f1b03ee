"""One exchange with an application, message by message, for what no client would do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Scope


@dataclass
class Answer:
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def exchange(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Iterator[bytes],
    *,
    leaves: bool = False,
) -> Answer:
    """Send the body as it is asked for; then wait for the answer, or leave."""
    answer = Answer()

    async def receive() -> Message:
        chunk = next(body, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if leaves:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message["body"]

    await app(scope_of(method, path, headers), receive, send)
    return answer


def scope_of(method: str, path: str, headers: Mapping[str, str]) -> Scope:
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }

"""Requests that are well framed and wrong in every other way: bodies, heads, methods and paths, for every route."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.hostile.texts import SECRET, huge_texts, strings, texts, values
from tests.hostile.wire import Attack

JSON = b"application/json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE")
TEXTS = ("text", "texts", "inputs", "summary")
OPTIONS: Mapping[str, tuple[Any, ...]] = {  # that are right, alone at least
    "truncation": ("head", "error", "chunk"),
    "stream": (True, False),
    "level": ("token", "word"),
    "format": ("dense", "top"),
    "top_k": (1, 1000),
    "precision": (1, 8),
    "timeout_ms": (1, 20_000),
    "num_beams": (1, 2, 8),
    "max_length": (1, 64),
    "min_length": (0, 8),
    "length_penalty": (-10, 0.0, 10),
    "no_repeat_ngram_size": (0, 1, 100),
    "numbers_from_source": (True, False),
    "repetition_penalty": (1, 1.5, 10),
    "early_stopping": (True, False, "never"),
}
Pointer = tuple[str, ...]
Tree = bytes | list[tuple[bytes, "Tree"]]  # a piece of JSON, or the fields of an object; names may repeat

_MEDIA_TYPES = (
    JSON,
    b"application/json; charset=utf-8",
    b"application/problem+json",
    b"APPLICATION/JSON ;CHARSET=UTF-8",
    b"",
    b";",
    b"/",
    b"json",
    b"text/plain",
    b"application/json; charset=utf-16",
    b"application/json;charset=\xff",
    b"multipart/form-data; boundary=x",
    b"application/x-www-form-urlencoded",
    b"application/json, text/plain",
)
_SECRET = SECRET.encode()
_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"Authorization", b""),
    (b"Authorization", b"Bearer"),
    (b"Authorization", b"Bearer " + _SECRET),
    (b"Authorization", b"bearer\t" + _SECRET + b" " + _SECRET),
    (b"Authorization", b"Basic " + _SECRET + b"=="),
    (b"Authorization", b"Bearer \xff\xfe\xed\xa0\x80 " + _SECRET),
    (b"Authorization", b"Bearer " + _SECRET * 1500),
    (b"Cookie", _SECRET * 100),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Encoding", b"identity, " + _SECRET),
    (b"Expect", b"100-continue"),
    (b"Expect", _SECRET),
    (b"Accept", b"text/html;q=\xff"),
    (b"Accept-Encoding", b"zstd, br, gzip;q=9"),
    (b"X-Request-ID", b"x" * 129),
    (b"X-Request-ID", b"\xf0\x9f\x98\x80 " + _SECRET),
    (b"X-Request-ID", b"mine"),
    (b"traceparent", b"00-" + b"f" * 32 + b"-" + b"0" * 16 + b"-01"),
    (b"traceparent", b"\xff" * 55),
    (b"If-None-Match", b'*, W/"' + _SECRET + b'"'),
    (b"Range", b"bytes=0-0,-1,99999999999-"),
    (b"X-Forwarded-For", _SECRET + b", 127.0.0.1, ::1"),
    (b"X-HTTP-Method-Override", b"DELETE"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"keep-alive, Upgrade, X-Request-ID"),
    (b"Connection", b"close"),
    (b"Origin", b"null"),
    (b"Content-Type", b"text/plain"),
    (b"X-" + b"a" * 2000, b"\x80" * 2000),
)
_TARGETS = (
    *b"/nope // //livez /livez/ /LIVEZ /./livez /../livez /livez%00 /%6civez /livez;a=b * /% /%zz".split(),
    *b"/models/ /models/%2e%2e%2fetc%2fpasswd /models/%ff%fe /models/%ED%A0%80 /models/% /models/%00".split(),
    *b"/models/news-en%0d%0aX-Injected:%20yes /models/%F0%9F%98%80 /page/..%5c..%5cx /page/%00 /docs/start.js/".split(),
    *b"/docs/..%2f..%2fapp%2fconfig.py /docs/%2e%2e/app.py /summarize/batch/ /summarize%2fbatch /%E2%80%AE".split(),
    *b"/livez#fragment /models/.. http://x/livez http://user:password@x:80/livez https://x:99999/livez".split(),
    *(b"/models/" + b"a" * 8000, b"/" + b"%25" * 2000, b"/a/" * 2000),
)
_QUERIES = (
    *b"? ?& ?= ?a ?a=1&a=2 ?%ff=%ff ?%00 ?; ?? ?% ?a[]=1 ?model=news-en ?beams=4#x".split(),
    *(b"?\x7f", b"?" + b"a&" * 4000, b"?a=" + _SECRET, b"?text=" + _SECRET * 100),
)


@dataclass(frozen=True, slots=True)
class Route:
    """One that takes a body: where, a body that works, and every field that one may have."""

    path: str
    example: Mapping[str, Any]
    fields: tuple[Pointer, ...]


def routes_of(document: Mapping[str, Any]) -> list[Route]:
    """The routes of an OpenAPI document that take a body."""
    found = []
    for path, item in document["paths"].items():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {}).get(JSON.decode())
            if content and "examples" in content:
                example = next(iter(content["examples"].values()))["value"]
                found.append(Route(_filled(path), example, tuple(_fields(document, content["schema"]))))
    return found


def paths_of(document: Mapping[str, Any]) -> list[str]:
    """Every path, with a model that there is; those that the document leaves out too."""
    return [*map(_filled, document["paths"]), "/docs", "/openapi.json", "/docs/start.js", "/page/page.js"]


@st.composite
def hostile_bodies(draw: st.DrawFn, routes: Sequence[Route], *, huge: bool = False) -> Attack:
    """A body that a route should look at twice, with a head that is mostly right. Half of them differ
    from a right one in texts and options only; with `huge`, some texts are longer than a text may be."""
    route = draw(st.sampled_from(routes))
    text = texts() | huge_texts() if huge else texts()
    body = draw(_readable(route, text) if draw(st.booleans()) else _bodies(route, text))
    headers: list[tuple[bytes, bytes]] = [(b"Content-Type", JSON)]
    if draw(st.integers(0, 9)) == 0:
        headers = [(b"Content-Type", draw(st.sampled_from(_MEDIA_TYPES))), *draw(_few_headers())]
    chunk = draw(st.sampled_from((0, 0, 0, 0, 1, 7, 4096, 65_537)))
    return Attack("POST", route.path.encode(), tuple(headers), body, chunk if len(body) < 10_000 * chunk else 0)


@st.composite
def hostile_heads(draw: st.DrawFn, routes: Sequence[Route], paths: Sequence[str]) -> Attack:
    """A method, path, query and headers that hardly anybody sends, perhaps with a body that would be right."""
    target = draw(st.sampled_from([path.encode() for path in paths]) | st.sampled_from(_TARGETS))
    query = draw(st.just(b"") | st.sampled_from(_QUERIES))
    route = draw(st.sampled_from(routes))
    body = draw(st.sampled_from((b"", b"", json.dumps(route.example).encode())))
    headers = draw(_few_headers())
    return Attack(draw(st.sampled_from(METHODS)), target + query, ((b"Content-Type", JSON), *headers), body)


def _few_headers() -> st.SearchStrategy[list[tuple[bytes, bytes]]]:
    return st.just([]) | st.lists(st.sampled_from(_HEADERS), max_size=4)


@st.composite
def _readable(draw: st.DrawFn, route: Route, text: st.SearchStrategy[str]) -> bytes:
    tree = _tree(route.example)
    for pointer in [each for each in route.fields if each[-1] in TEXTS]:
        if pointer[-1] in route.example:
            tree = _edited(tree, pointer, draw(_texts_like(route.example[pointer[-1]], text)))
    for pointer in draw(st.lists(st.sampled_from([each for each in route.fields if each[-1] in OPTIONS]), max_size=3)):
        tree = _edited(tree, pointer, json.dumps(draw(st.sampled_from(OPTIONS[pointer[-1]]))).encode())
    return _written(tree)


def _texts_like(example: object, text: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """One, or several where the example has several."""
    one = strings(text)
    return st.lists(one, min_size=1, max_size=4).map(_array) if isinstance(example, list) else one


@st.composite
def _bodies(draw: st.DrawFn, route: Route, text: st.SearchStrategy[str]) -> bytes:
    value = strings(text) | values()
    if draw(st.integers(0, 9)) == 0:
        return draw(value | st.binary(max_size=60))
    tree = _tree(route.example)
    for _ in range(draw(st.integers(1, 3))):
        pointer = draw(st.sampled_from(route.fields))
        edit = draw(value)
        told = pointer[-1] == "model"  # the name of a model, and that of a field, is told back
        edit = edit.replace(_SECRET, b"name") if told else edit
        tree = _edited(tree, pointer, edit, twice=draw(st.integers(0, 19)) == 0)
    if draw(st.integers(0, 9)) == 0 and isinstance(tree, list):
        tree = [*tree, (draw(strings(texts())).replace(_SECRET, b"name"), draw(value))]
    body = _written(tree)
    return body if draw(st.integers(0, 9)) else draw(_damaged(body))


@st.composite
def _damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Cut, with some bytes overwritten, or in another encoding."""
    place = draw(st.integers(0, len(body)))
    other = draw(st.sampled_from(("utf-16", "utf-32", "utf-8-sig")))
    return draw(
        st.sampled_from(
            (
                body[:place],
                body[:place] + draw(st.binary(min_size=1, max_size=4)) + body[place:],
                body[:place] + draw(st.binary(min_size=1, max_size=4)) + body[place + 4 :],
                body + body,
                body.decode("utf-8", "replace").encode(other),
            )
        )
    )


def _tree(content: Any) -> Tree:
    if not isinstance(content, dict):
        return json.dumps(content).encode()
    return [(_name(name), _tree(value)) for name, value in content.items()]


def _edited(tree: Tree, pointer: Pointer, value: bytes, *, twice: bool = False) -> Tree:
    """With another value there, in the place of the old one or, `twice`, beside it."""
    first, *rest = pointer
    fields = tree if isinstance(tree, list) else []
    name = _name(first)
    old = next((inner for each, inner in fields if each == name), b"{}")
    new = _edited(old, tuple(rest), value, twice=twice) if rest else value
    kept = fields if twice else [field for field in fields if field[0] != name]
    return [*kept, (name, new)]


def _written(tree: Tree) -> bytes:
    if isinstance(tree, bytes):
        return tree
    return b"{" + b", ".join(name + b": " + _written(value) for name, value in tree) + b"}"


def _array(items: Sequence[bytes]) -> bytes:
    return b"[" + b", ".join(items) + b"]"


def _name(name: str) -> bytes:
    return json.dumps(name).encode()


def _filled(path: str) -> str:
    return path.replace("{name}", "news-en")


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any], above: Pointer = ()) -> Iterator[Pointer]:
    """Pointers to every field, those of inner objects too."""
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            yield from _fields(document, document["components"]["schemas"][choice["$ref"].rsplit("/", 1)[1]], above)
        for name, inner in choice.get("properties", {}).items():
            yield (*above, name)
            yield from _fields(document, inner, (*above, name))

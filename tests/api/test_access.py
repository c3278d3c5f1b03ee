"""Nobody does anything without a key where keys are on: every route of the table is tried, and what is none."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from app.api import docs, page
from app.api.access import HEALTH
from app.config import Settings
from app.main import create_app
from tests.api.asgi import exchange
from tests.api.test_limits import stopped
from tests.api.test_problems import METHODS, check_problem
from tests.fakes import FakeModel

USER, ADMINISTRATOR, FEW, SHORT, REVOKED = "user-key", "admin-key", "few-key", "short-key", "revoked-key"
ORIGIN = "https://news.example"
TEXT = "alpha bravo charlie"


def line(name: str, role: str, key: str, limits: str = "") -> str:
    return f"{name} {role} sha256:{hashlib.sha256(key.encode()).hexdigest()} {limits}"


LINES = (
    line("desk", "user", USER),
    line("operations", "admin", ADMINISTRATOR),
    line("few", "user", FEW, "requests=4"),
    line("short", "user", SHORT, "characters=40"),
)
administration = APIRouter(tags=["Administration"])


@administration.post("/models/{name}/polish")
async def polish() -> PlainTextResponse:
    return PlainTextResponse("done")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def with_administration(settings: Settings, model: FakeModel) -> FastAPI:
    app = create_app(settings, models=[model])
    app.include_router(administration)
    return app


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    """No minute of the clock ends in a test."""
    with stopped():
        yield


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With keys; a test may ask for other settings."""
    return settings.model_copy(update={"api_keys": "\n".join(LINES), **getattr(request, "param", {})})


@pytest.fixture
def app(settings: Settings, model: FakeModel) -> FastAPI:
    return with_administration(settings, model)


@pytest.fixture
def open_client(model: FakeModel) -> Iterator[TestClient]:
    """Of a service without keys."""
    with TestClient(with_administration(Settings(max_rows=8), model)) as client:
        yield client
        model.gate.open()


def routes(app: FastAPI) -> Iterator[tuple[str, set[str], list[Any]]]:
    for context in iter_route_contexts(app.routes):
        yield str(context.path).replace("{name}", "news-en"), set(context.methods or ()), list(context.tags)


NOWHERE = ["/nope", "/livez/", "/livez\n", "//livez", "/page/nope", "/docs/nope", "/models/a/b", "/LIVEZ", "/redoc"]


@pytest.mark.parametrize("settings", [{}, {"public_pages": True}], ids=["closed", "public pages"], indirect=True)
@pytest.mark.parametrize("headers", [{}, bearer("wrong")], ids=["none", "wrong"])
def test_without_a_key_every_route_is_401_but_health_and_what_is_public(
    app: FastAPI, client: TestClient, settings: Settings, headers: dict[str, str]
) -> None:
    pages = docs.PATHS | page.PATHS if settings.public_pages else frozenset()
    paths = {path for path, _, _ in routes(app)} | HEALTH | docs.PATHS | page.PATHS
    for path in (*paths, *NOWHERE):
        for method in METHODS:
            answer = client.request(method, f"http://testserver{path.replace(chr(10), '%0A')}", headers=headers)
            if method in ("GET", "HEAD") and path in HEALTH | pages:
                assert answer.status_code == 200, (method, path)
                continue
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                check_problem(answer.json(), 401)
    assert len(paths) > 30


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", f"Basic {USER}", USER, f"Bearer{USER}", f"Bearer {USER} x"])
def test_what_is_no_bearer_token_is_no_key(client: TestClient, value: str) -> None:
    assert client.get("/models", headers={"Authorization": value}).status_code == 401


def test_of_a_route_that_is_there_no_more_is_told_than_of_one_that_is_not(client: TestClient) -> None:
    there, nowhere = (client.post(path, headers={"X-Request-ID": "x"}) for path in ("/summarize", "/nope"))
    assert there.json() | {"instance": ""} == nowhere.json() | {"instance": ""}
    assert there.headers == nowhere.headers | {"content-length": there.headers["content-length"]}


def test_with_a_key_every_route_answers_as_it_would_without_keys(
    app: FastAPI, client: TestClient, open_client: TestClient
) -> None:
    for path, _, tags in [*routes(app), *((path, set[str](), []) for path in NOWHERE)]:
        if "Administration" in tags:
            continue
        for method in METHODS:
            url = f"http://testserver{path.replace(chr(10), '%0A')}"
            assert (
                client.request(method, url, headers=bearer(USER)).status_code
                == open_client.request(method, url).status_code
            ), (method, path)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_written_in_any_way(client: TestClient, scheme: str) -> None:
    assert client.get("/models", headers={"Authorization": f"{scheme} {USER}"}).status_code == 200


def test_the_ways_of_clients_that_exist_want_a_key_too(client: TestClient) -> None:
    for path in ("/", "/models/news-en"):
        assert client.post(path, json={"inputs": TEXT}).status_code == 401
        assert client.post(path, json={"inputs": TEXT}, headers=bearer(USER)).status_code == 200


def test_what_is_for_administrators_is_403_for_a_user(client: TestClient) -> None:
    for key, status in ((USER, 403), (ADMINISTRATOR, 200), ("wrong", 401)):
        with capture_logs() as logged:
            answer = client.post("/models/news-en/polish", headers=bearer(key))
        assert answer.status_code == status
        if status != 200:
            check_problem(answer.json(), status)
        assert [line["key"] for line in logged] == [{403: "desk", 200: "operations", 401: None}[status]]


def test_without_keys_what_is_for_administrators_is_403_and_tells_how_to_make_one(open_client: TestClient) -> None:
    answer = open_client.post("/models/news-en/polish", headers=bearer(ADMINISTRATOR))
    assert answer.status_code == 403
    assert "precis keys new NAME --admin" in answer.json()["detail"]
    assert "SIGHUP" in answer.json()["detail"]


def test_without_keys_authorization_is_not_looked_at(open_client: TestClient) -> None:
    for value in ("Bearer wrong", "nonsense", ""):
        assert open_client.get("/models", headers={"Authorization": value}).status_code == 200


def test_a_body_is_not_read_before_the_key_counts(app: FastAPI) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    headers = {"Content-Type": "application/json", **bearer("wrong")}
    assert asyncio.run(exchange(app, "POST", "/summarize", headers, body())).status == 401


def test_keys_and_texts_are_in_no_answer_no_metric_and_no_line_of_the_log(client: TestClient) -> None:
    with capture_logs() as logged:
        for key in (USER, "wrong-key", SHORT):
            for body in ({"text": "whiskey " * 9}, {"text": "whiskey", "whiskey": 1}, {"texts": ["whiskey " * 9]}):
                for path in ("/summarize", "/summarize/batch", "/whiskey"):
                    answer = client.post(path, json=body, headers=bearer(key))
                    if answer.status_code >= 400:
                        told = answer.text.replace("/whiskey", "").replace("'whiskey'", "")  # names, not texts
                        assert "whiskey" not in told
                    assert "-key" not in answer.text + str(answer.headers)
        metrics = client.get("/metrics", headers=bearer(USER)).text
    assert "-key" not in metrics + str(logged)
    assert "whiskey" not in metrics + str(logged)
    assert {each.get("key") for each in logged} == {"desk", None, "short"}


# --- limits ---


def limited(answer: Any, unit: str, amount: int) -> None:
    """A 429 that says which limit and when to try again, in the words of IETF's draft."""
    assert answer.status_code == 429
    check_problem(answer.json(), 429)
    seconds = int(answer.headers["retry-after"])
    assert 1 <= seconds <= 121
    assert answer.headers["ratelimit"].startswith(f'"{unit}";r=')
    assert answer.headers["ratelimit"].endswith(f";t={seconds}")
    assert answer.headers["ratelimit-policy"] == f'"{unit}";q={amount};w=60'
    assert f"{amount} {unit}" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models", None),
        ("/nope", None),
        ("/summarize", {"text": TEXT}),
        ("/summarize", {"text": TEXT, "stream": True}),
        ("/summarize", {"text": " "}),
        ("/attention", {"text": TEXT}),
        ("/", {"inputs": TEXT}),
    ],
)
def test_requests_of_a_key_are_limited_whatever_they_ask_for(client: TestClient, path: str, body: Any) -> None:
    method = "GET" if body is None else "POST"
    answers = [client.request(method, path, json=body, headers=bearer(FEW)) for _ in range(5)]
    assert 429 not in [answer.status_code for answer in answers[:4]]
    limited(answers[4], "requests", 4)
    assert answers[4].headers["ratelimit"].startswith('"requests";r=0;')
    assert client.get("/models", headers=bearer(USER)).status_code == 200, "a limit is of one key"


def test_every_text_of_a_batch_counts_as_a_request(client: TestClient) -> None:
    three, two = {"texts": [TEXT] * 3}, {"inputs": [TEXT] * 2}
    assert client.post("/summarize/batch", json=three, headers=bearer(FEW)).status_code == 200
    limited(client.post("/", json=two, headers=bearer(FEW)), "requests", 4)


def test_characters_of_all_texts_are_limited(client: TestClient) -> None:
    def ask(path: str, body: Any) -> Any:
        return client.post(path, json=body, headers=bearer(SHORT))

    assert ask("/summarize/batch", {"texts": ["x" * 10, "y" * 10]}).status_code == 200
    limited(ask("/attention", {"text": "x" * 21}), "characters", 40)
    limited(ask("/summarize", {"text": "x" * 21, "stream": True}), "characters", 40)
    assert ask("/", {"inputs": "x" * 20}).status_code == 200, "what was refused used up nothing"
    limited(ask("/summarize", {"text": "x"}), "characters", 40)
    assert client.get("/models", headers=bearer(SHORT)).status_code == 200


def test_what_a_limit_never_allows_is_413(client: TestClient) -> None:
    for key, path, body in (
        (SHORT, "/summarize", {"text": "x" * 41}),
        (FEW, "/summarize/batch", {"texts": [TEXT] * 6}),
    ):
        answer = client.post(path, json=body, headers=bearer(key))
        assert answer.status_code == 413
        check_problem(answer.json(), 413)
        assert "than this key may send in a minute" in answer.json()["detail"]


def test_health_is_asked_without_end_and_costs_nothing(client: TestClient) -> None:
    assert {client.get("/livez", headers=bearer(FEW)).status_code for _ in range(9)} == {200}
    assert client.get("/models", headers=bearer(FEW)).status_code == 200


def test_what_a_limit_refuses_is_counted(client: TestClient) -> None:
    for _ in range(6):
        client.get("/models", headers=bearer(FEW))
    metrics = client.get("/metrics", headers=bearer(USER)).text
    assert 'precis_refused_total{reason="key_limit"} 2.0' in metrics


# --- other web sites ---

PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def test_other_web_sites_may_do_nothing_by_default(client: TestClient) -> None:
    for answer in (
        client.options("/summarize", headers=PREFLIGHT),
        client.get("/models", headers={"Origin": ORIGIN, **bearer(USER)}),
    ):
        assert [name for name in answer.headers if name.startswith("access-control-")] == []


@pytest.mark.parametrize("settings", [{"cors_origins": f"https://a.example,{ORIGIN}"}], indirect=True)
def test_a_web_site_that_is_listed_may_ask_with_a_key_and_read_every_answer(client: TestClient) -> None:
    preflight = client.options("/summarize", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for headers, status in ((bearer(USER), 200), ({}, 401), (bearer(FEW), 200)):
        answer = client.post("/summarize", json={"text": TEXT}, headers={"Origin": ORIGIN, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
    other = client.post("/summarize", json={"text": TEXT}, headers={"Origin": "https://b.example", **bearer(USER)})
    assert "access-control-allow-origin" not in other.headers


# --- headers ---


@pytest.mark.parametrize("settings", [{"public_pages": True}, {"cors_origins": "*"}], ids=str, indirect=True)
def test_every_answer_has_safe_headers(app: FastAPI, client: TestClient) -> None:
    checked = set()
    for path, _, _ in [*routes(app), *((path, set[str](), []) for path in docs.PATHS | page.PATHS)]:
        for method in ("GET", "POST", "OPTIONS"):
            for headers in ({}, {**bearer(USER), "Origin": ORIGIN}):
                answer = client.request(method, path, headers=headers)
                checked.add(answer.status_code)
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert answer.headers["x-frame-options"] == "DENY"
                assert answer.headers["cross-origin-resource-policy"] == "same-origin"
                assert answer.headers["cache-control"]
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
    assert checked >= {200, 401, 403, 404, 405}

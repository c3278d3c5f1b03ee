"""No error leaves the service as anything but a problem."""

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from app import errors
from app.api.problems import describe, invalid
from app.errors import FieldError, OverloadedError, Quota, RequestError, TooManyRequestsError
from app.schemas import Problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "7", "RateLimit": '"requests";r=2;t=7', "RateLimit-Policy": '"requests";q=60;w=30'},
    503: {"Retry-After": "7"},
}
SUBCLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RequestError) and kind is not RequestError
]


def check_problem(body: object, status: int) -> None:
    problem = Problem.model_validate(body)
    assert problem.model_dump() == body
    assert problem.status == status
    assert problem.error == problem.detail != ""
    assert problem.type == f"urn:precis:problem:{problem.error_type}"


@pytest.mark.parametrize("kind", SUBCLASSES, ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_is_told_with_its_own_status_and_words(kind: type[RequestError]) -> None:
    if issubclass(kind, TooManyRequestsError):
        error: RequestError = kind("why", 7, Quota("requests", 60, 2, 30))
    else:
        error = kind("why", 7) if issubclass(kind, OverloadedError) else kind("why")
    failure = describe(error)
    assert (failure.status, failure.title, failure.slug, failure.detail) == (kind.status, kind.title, kind.slug, "why")
    assert failure.headers == HEADERS.get(kind.status, {})
    check_problem(failure.document(instance="/x", request_id="y"), kind.status)


def test_of_an_error_that_nobody_foresaw_nothing_is_told() -> None:
    failure = describe(KeyError("secret"))
    assert failure.status == 500
    assert "secret" not in str(failure)


def test_many_errors_are_counted_in_the_detail_and_listed_below() -> None:
    error = invalid(tuple(FieldError(f"/{number}", "is wrong") for number in range(5)))
    assert error.detail == "/0 is wrong; /1 is wrong; /2 is wrong; and 2 more"
    assert len(error.errors) == 5


def test_every_route_answers_every_other_method_with_405_and_allow(app: FastAPI, client: TestClient) -> None:
    checked = 0
    methods: dict[str, set[str]] = {}
    for context in iter_route_contexts(app.routes):
        assert context.path
        assert context.methods
        methods.setdefault(context.path, set()).update(context.methods)
    for path, own in methods.items():
        allowed = own | ({"HEAD"} if "GET" in own else set())
        for method in set(METHODS) - allowed:
            response = client.request(method, path.replace("{name}", "news-en"))
            assert response.status_code == 405, (method, path)
            assert set(response.headers["allow"].split(", ")) == allowed
            if method != "HEAD":
                assert response.headers["content-type"] == "application/problem+json"
                check_problem(response.json(), 405)
            checked += 1
    assert checked > 50


@pytest.mark.parametrize("path", ["/nope", "/summarize/", "/models/", "/models/a/b", "//livez", "/docs/nope", "/LIVEZ"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_a_problem_for_every_method(client: TestClient, path: str, method: str) -> None:
    response = client.request(method, f"http://testserver{path}")
    if path == "/docs/nope" and method != "GET":
        assert response.status_code == 405
        return
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    check_problem(response.json(), 404)


def test_the_instance_is_the_path_alone_and_printable(client: TestClient) -> None:
    assert client.get("/no%20such%0Apath?secret=1").json()["instance"] == "/no%20such%0Apath"

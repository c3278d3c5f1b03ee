import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.api.body import MOST_VALUES, READ_AT_ONCE, parse_json
from app.config import Settings
from app.errors import InvalidRequestError, MalformedBodyError, TooLargeError
from tests.api.asgi import exchange

JSON = {"Content-Type": "application/json"}
POSTS = ("/summarize", "/summarize/batch", "/attention")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


def post(client: TestClient, body: bytes | str, path: str = "/summarize", **headers: str) -> Response:
    return client.post(path, content=body, headers={**JSON, **headers})


@given(json_values)
def test_json_is_read_as_the_standard_library_reads_it(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(json_values)
def test_a_large_body_is_read_like_a_small_one(value: object) -> None:
    assert parse_json(json.dumps(value).encode().ljust(READ_AT_ONCE + 1)) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_an_error_of_ours(body: bytes) -> None:
    with contextlib.suppress(MalformedBodyError, InvalidRequestError):
        parse_json(body)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("size", [0, READ_AT_ONCE + 1])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"text": "alpha",}', "line 1, column"),
        (b"{'text': 'alpha'}", "not JSON"),
        (b'{"text": "alpha"} trailing', "not JSON"),
        (b'{"text": "\xff"}', "not UTF-8: wrong byte at position 10"),
        (b'\xef\xbb\xbf{"text": "alpha"}', "not JSON"),
        ('{"text": "alpha"}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 20_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b'{"text": ' + b"1" * 5000 + b"}", "too many digits"),
    ],
)
def test_a_body_that_is_not_json_is_400(client: TestClient, path: str, body: bytes, size: int, reason: str) -> None:
    response = post(client, body.ljust(size), path)
    assert response.status_code == 400
    assert response.json()["error_type"] == "malformed-json"
    assert reason in response.json()["detail"]


@pytest.mark.parametrize("body", ["null", "1", '"alpha"', '["alpha"]', "NaN"])
def test_a_body_that_is_no_object_is_422(client: TestClient, body: str) -> None:
    problem = post(client, body).json()
    assert problem["status"] == 422
    assert problem["errors"] == [{"pointer": "", "message": "must be a JSON object"}]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_422_and_named(client: TestClient, literal: str) -> None:
    problem = post(client, f'{{"text": "alpha", "parameters": {{"length_penalty": {literal}}}}}').json()
    assert problem["status"] == 422
    assert problem["errors"] == [{"pointer": "/parameters/length_penalty", "message": "must be a finite number"}]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["text", "surprise", "timeout_ms"])
def test_a_literal_that_json_does_not_have_is_accepted_nowhere(client: TestClient, field: str, literal: str) -> None:
    assert post(client, f'{{"{field}": {literal}}}').status_code == 422


def test_a_field_that_appears_twice_is_422_by_name(client: TestClient) -> None:
    problem = post(client, '{"text": "alpha", "parameters": {"num_beams": 1, "num_beams": 2}}').json()
    assert problem["status"] == 422
    assert problem["errors"] == [{"pointer": "", "message": "field 'num_beams' appears twice"}]


def test_an_object_with_too_many_fields_is_422_without_naming_them_all(client: TestClient) -> None:
    response = post(client, json.dumps({f"field{number}": 1 for number in range(5000)}))
    assert response.status_code == 422
    assert len(response.content) < 1000


def test_names_that_cannot_be_told_back_as_they_are_do_no_harm(client: TestClient) -> None:
    problem = post(client, '{"text": "alpha", "%s": 2, "a/b~c": 3}' % ("x" * 10_000)).json()
    assert problem["status"] == 422
    pointers = [error["pointer"] for error in problem["errors"]]
    assert len(pointers[0]) < 200
    assert pointers[1] == "/a~1b~0c"


@pytest.mark.parametrize(
    "body", ['{"\\ud800": 1}', '{"\\ud800": 1, "\\ud800": 2}', '{"text": "a", "model": "\\udfff"}']
)
def test_a_lone_surrogate_is_422_wherever_it_stands(client: TestClient, body: str) -> None:
    assert post(client, body).status_code == 422


@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application", "multipart/form-data", "text/json", "json"],
)
def test_a_body_that_is_not_declared_as_json_is_415(client: TestClient, media_type: str) -> None:
    response = client.post("/summarize", content=b'{"text": "alpha"}', headers={"Content-Type": media_type})
    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json()["detail"]


def test_a_body_without_a_content_type_is_415(client: TestClient) -> None:
    assert client.post("/summarize", content=b'{"text": "alpha"}').status_code == 415


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.precis+json",
    ],
)
def test_json_may_be_declared_in_several_ways(client: TestClient, media_type: str) -> None:
    assert post(client, '{"text": "alpha"}', **{"Content-Type": media_type}).status_code == 200


def test_another_charset_than_utf_8_is_415(client: TestClient) -> None:
    response = post(client, '{"text": "alpha"}', **{"Content-Type": "application/json; charset=latin-1"})
    assert response.status_code == 415
    assert "UTF-8" in response.json()["detail"]


def test_a_compressed_body_is_415(client: TestClient) -> None:
    assert post(client, b"\x1f\x8b", **{"Content-Encoding": "gzip"}).status_code == 415


def test_unknown_query_parameters_are_422_by_name(client: TestClient) -> None:
    problem = client.post("/summarize?beams=4&model=x", json={"text": "alpha"}).json()
    assert problem["status"] == 422
    assert [error["message"] for error in problem["errors"]] == [
        "unknown query parameter 'beams'",
        "unknown query parameter 'model'",
    ]


@pytest.mark.parametrize("path", ["/livez", "/models", "/metrics", "/docs", "/openapi.json"])
def test_no_route_ignores_a_query_parameter(client: TestClient, path: str) -> None:
    assert client.get(path + "?probe=").status_code == 422


@pytest.mark.parametrize(
    ("path", "limit"), [("/summarize", "max_body_bytes"), ("/summarize/batch", "max_batch_body_bytes")]
)
def test_a_body_over_its_limit_is_413(client: TestClient, settings: Settings, path: str, limit: str) -> None:
    size: int = getattr(settings, limit)
    assert post(client, b" " * (size + 1), path).status_code == 413
    assert post(client, b" " * size, path).status_code == 400


@pytest.mark.parametrize("value", ["[]", "{}", "1.5", '""', '[{"a": []}]'])
def test_a_body_of_very_many_small_values_is_too_large(value: str) -> None:
    with pytest.raises(TooLargeError, match=f"more than {MOST_VALUES} values"):
        parse_json(b'{"texts": [%s]}' % b",".join([value.encode()] * MOST_VALUES))


def test_a_body_of_as_many_values_as_may_be_is_read() -> None:
    assert parse_json(b"[" + b",".join([b"[]"] * MOST_VALUES) + b"]") == [[]] * MOST_VALUES


def test_a_body_that_declares_to_be_too_long_is_refused_before_it_is_read(app: FastAPI, settings: Settings) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("nobody needs to read this")
        yield b""

    headers = {**JSON, "Content-Length": str(settings.max_body_bytes + 1)}
    answer = asyncio.run(exchange(app, "POST", "/summarize", headers, body()))
    assert answer.status == 413


def test_a_body_without_length_is_read_no_further_than_its_limit(app: FastAPI, settings: Settings) -> None:
    chunk, sent = b" " * 4096, 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += len(chunk)
            yield chunk

    answer = asyncio.run(exchange(app, "POST", "/summarize", JSON, body()))
    assert answer.status == 413
    assert sent <= settings.max_body_bytes + len(chunk)


def test_a_caller_who_leaves_while_sending_is_not_answered(app: FastAPI) -> None:
    answer = asyncio.run(exchange(app, "POST", "/summarize", JSON, iter([b'{"text": ']), leaves=True))
    assert answer.status is None

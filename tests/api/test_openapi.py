"""The document: complete, and its examples work when they are tried."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app import schemas
from app.examples import EXAMPLES
from tests.api.events import events_of

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json()
    return content


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_the_document_has_the_routes_of_this_version(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {path for _, path, _ in operations(document)} == {
        "/summarize",
        "/summarize/batch",
        "/attention",
        "/models",
        "/models/{name}",
        "/livez",
        "/readyz",
        "/health",
        "/metrics",
    }


def test_operations_have_names_that_read_well(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert names == [
        "summarize",
        "attend",
        "summarize_batch",
        "list_models",
        "get_model",
        "is_alive",
        "is_ready",
        "is_healthy",
        "get_metrics",
    ]
    assert all(operation["summary"] and operation["description"] for _, _, operation in operations(document))


def test_every_error_response_is_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        errors = {status: response for status, response in operation["responses"].items() if int(status) >= 400}
        expected = (
            {"400", "404", "405", "413", "415", "422", "500", "503", "504"} if method == "post" else {"405", "422"}
        )
        assert expected <= set(errors), path
        for status, response in errors.items():
            (media_type,) = response["content"]
            assert media_type == "application/problem+json"
            content = response["content"][media_type]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert schemas.Problem.model_validate(content["example"]).status == int(status)
        assert "Retry-After" in errors.get("503", {"headers": ["Retry-After"]})["headers"]


def test_both_forms_of_a_summary_are_told(document: dict[str, Any]) -> None:
    content = document["paths"]["/summarize"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
    events = list(events_of(content["text/event-stream"]["example"].splitlines()))
    assert [name for name, _ in events] == ["token", "summary", "done"]
    schemas.TokenEvent.model_validate(events[0][1])
    schemas.Summary.model_validate(events[1][1])


def test_every_schema_has_its_example(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["examples"] == [EXAMPLES[name]], name


def test_the_segmenter_of_words_is_named(document: dict[str, Any]) -> None:
    assert "ICU" in document["components"]["schemas"]["AttentionRequest"]["properties"]["level"]["description"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [reference for value in node.values() for reference in references(value)]
        return [reference for value in node for reference in references(value)] if isinstance(node, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_every_example_of_a_request_works_when_it_is_tried(client: TestClient, document: dict[str, Any]) -> None:
    tried = 0
    for method, path, operation in operations(document):
        if method != "post":
            continue
        body = operation["requestBody"]["content"]["application/json"]
        schema = body["schema"]["$ref"].rsplit("/", 1)[1]
        bodies = [*(example["value"] for example in body["examples"].values()), EXAMPLES[schema]]
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        for each in bodies:
            response = client.post(path, json=each)
            assert response.status_code == 200, response.text
            getattr(schemas, answer).model_validate(response.json())
            assert "error" not in str(response.json().keys())
            tried += 1
    assert tried == 7


def test_every_route_without_a_body_works_with_the_examples_of_its_parameters(
    client: TestClient, document: dict[str, Any]
) -> None:
    for method, path, operation in operations(document):
        if method != "get":
            continue
        for parameter in operation.get("parameters", []):
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
        assert client.get(path).status_code == 200

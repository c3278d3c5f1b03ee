"""The document: complete, true, and its examples work when they are tried. Walks every operation, whatever they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from app import errors, examples, schemas
from app.config import Settings
from app.errors import RequestError
from app.keys import Key, digest, new_key
from tests.api.events import events_of

METHODS = {"get", "post", "put", "patch", "delete"}
ERRORS = {"405", "422", "500"}
WORK_ERRORS = ERRORS | {"400", "404", "413", "415", "503", "504"}
REFUSALS = {"401", "429"}  # of a key
HEALTH = {"/livez", "/readyz", "/health"}
HEADERS = {"401": "WWW-Authenticate", "405": "Allow", "429": "RateLimit", "503": "Retry-After"}
KEY = new_key()
JSON, PROBLEM = "application/json", "application/problem+json"


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    content: dict[str, Any]

    def example_path(self, document: dict[str, Any]) -> str:
        path = self.path
        for parameter in (resolved(document, each) for each in self.content["parameters"]):
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
        return path

    def example_bodies(self) -> list[Any]:
        body = self.content["requestBody"]["content"][JSON]
        named = examples.EXAMPLES[name_of(body["schema"])]
        return [*(example["value"] for example in body["examples"].values()), named]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_keys": str(Key("all", digest(KEY.encode()), admin=True))})


@pytest.fixture
def client(client: TestClient) -> TestClient:
    """Of an administrator, who may try everything."""
    client.headers["Authorization"] = f"Bearer {KEY}"
    return client


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json()
    return content


@pytest.fixture
def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        Operation(method, path, content)
        for path, item in document["paths"].items()
        for method, content in item.items()
        if method in METHODS
    ]


def name_of(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rsplit("/", 1)[1]


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = document
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolved(document, found)


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree, the whole one first."""
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(value)


def type_of(schema: dict[str, Any]) -> Any:
    """The type of this project that a schema of an answer stands for."""
    return list[type_of(schema["items"])] if schema.get("type") == "array" else getattr(schemas, name_of(schema))  # type: ignore[misc]  # made at run time


def test_every_route_that_takes_a_body_or_answers_json_is_described(
    app: FastAPI, client: TestClient, operations: list[Operation], document: dict[str, Any]
) -> None:
    assert document["openapi"].startswith("3.1")
    described = {(operation.method.upper(), operation.path) for operation in operations}
    routes = iter_route_contexts(app.routes)
    served = {(method, str(each.path)) for each in routes for method in (each.methods or set()) - {"HEAD"}}
    assert described <= served
    for method, path in served - described - {("GET", "/openapi.json")}:  # pages and their parts
        assert method == "GET", path
        assert client.get(path).headers["content-type"] != JSON, path


def test_operations_have_names_that_read_well_in_a_client(operations: list[Operation]) -> None:
    names = [operation.content["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch("[a-z]+(_[a-z]+)*(?<!_get)(?<!_post)", name)] == []
    assert {"summarize", "summarize_batch", "attend", "list_models", "get_model", "is_ready"} <= set(names)


def test_every_operation_says_what_it_does_and_what_it_answers(
    operations: list[Operation], document: dict[str, Any]
) -> None:
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    for operation in operations:
        assert operation.content["summary"]
        assert operation.content["description"]
        (tag,) = operation.content["tags"]
        assert tags[tag]
        assert resolved(document, operation.content["responses"]["200"])["description"] != "Successful Response"
    assert {tag for operation in operations for tag in operation.content["tags"]} == set(tags)


def test_every_error_is_a_problem_with_examples_of_its_status(
    operations: list[Operation], document: dict[str, Any]
) -> None:
    for operation in operations:
        answers = operation.content["responses"]
        failures = {status: resolved(document, answer) for status, answer in answers.items() if status[0] in "45"}
        assert set(failures) >= (WORK_ERRORS if "requestBody" in operation.content else ERRORS), operation.path
        assert set(failures) & REFUSALS == (set() if operation.path in HEALTH else REFUSALS)
        assert ("403" in failures) == ("Administration" in operation.content["tags"])
        for status, failure in failures.items():
            content = failure["content"][PROBLEM]
            assert name_of(content["schema"]) == "Problem"
            for slug, example in content["examples"].items():
                problem = schemas.Problem.model_validate(example["value"])
                assert (problem.status, problem.error_type) == (int(status), slug)
            assert HEADERS.get(status, "X-Request-ID") in failure["headers"]


def test_every_kind_of_error_is_an_example(document: dict[str, Any]) -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RequestError)]
    told = {
        (problem["status"], problem["title"], problem["error_type"])
        for answer in document["components"]["responses"].values()
        for problem in (example["value"] for example in answer["content"][PROBLEM]["examples"].values())
    }
    assert {(kind.status, kind.title, kind.slug) for kind in kinds} <= told


def test_all_but_the_health_of_the_service_is_told_to_want_a_key(
    operations: list[Operation], document: dict[str, Any]
) -> None:
    assert document["security"] == [{"ApiKey": []}]
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    open_to_all = {each.path for each in operations if each.content.get("security", document["security"]) == []}
    assert open_to_all == HEALTH


def test_the_examples_of_problems_are_what_the_service_answers(client: TestClient) -> None:
    headers = {"X-Request-ID": examples.REQUEST_ID}
    wrong = {"text": "alpha", "parameters": {"num_beams": 9}}
    assert client.post("/summarize", json=wrong, headers=headers).json() == examples.PROBLEM
    batch = client.post("/summarize/batch", json={"texts": ["alpha", " "]}, headers=headers).json()
    assert batch["results"][0]["id"] == examples.BATCH_RESPONSE["results"][0]["id"]
    assert batch["results"][1] == examples.BATCH_FAILURE


def test_every_answer_is_documented_with_its_request_id_and_takes_one(
    operations: list[Operation], document: dict[str, Any]
) -> None:
    for operation in operations:
        parameters = [resolved(document, parameter) for parameter in operation.content["parameters"]]
        assert [each["name"] for each in parameters if each["in"] == "header"] == ["X-Request-ID"]
        for answer in operation.content["responses"].values():
            assert "X-Request-ID" in resolved(document, answer)["headers"]


def test_every_schema_has_a_description_and_an_example_and_so_has_every_field(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        assert schema["examples"] == [examples.EXAMPLES.get(name, schema["examples"][0])], name
        for field, content in schema.get("properties", {}).items():
            assert content.get("description") or resolved(document, content).get("description"), (name, field)
            assert "title" not in content, (name, field)


def test_no_object_and_no_choice_is_without_a_name(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        inner = [node for node in nodes(schema.get("properties", {})) if "enum" in node or node.get("type") == "object"]
        assert inner == [], name
    for operation in nodes(document["paths"]):
        for content in operation.get("content", {}).values():
            assert not {"enum", "properties", "anyOf", "oneOf"} & set(content.get("schema", {})), content


def test_what_an_answer_may_leave_out_is_never_null_in_it(document: dict[str, Any]) -> None:
    answered = {each.__name__ for each in schemas.Answered.__subclasses__()} | {"AttentionResponse", "SummaryItem"}
    for name in answered & set(document["components"]["schemas"]):
        assert {"type": "null"} not in list(nodes(document["components"]["schemas"][name])), name


def test_what_may_be_null_is_that_or_one_type_or_one_with_a_name(document: dict[str, Any]) -> None:
    null = {"type": "null"}
    choices = [node["anyOf"] for node in nodes(document) if null in node.get("anyOf", [])]
    assert [choice for choice in choices if not all("$ref" in each or each == null for each in choice)] == []


def test_both_forms_of_a_summary_are_told(document: dict[str, Any]) -> None:
    content = document["paths"]["/summarize"]["post"]["responses"]["200"]["content"]
    assert list(content) == [JSON, "text/event-stream"]
    events = list(events_of(content["text/event-stream"]["example"].splitlines()))
    assert [name for name, _ in events] == ["token", "summary", "done"]
    schemas.TokenEvent.model_validate(events[0][1])
    schemas.Summary.model_validate(events[1][1])


def test_the_segmenter_of_words_is_named(document: dict[str, Any]) -> None:
    assert "ICU" in document["components"]["schemas"]["AttentionLevel"]["description"]


def test_the_service_is_where_the_document_comes_from(document: dict[str, Any]) -> None:
    assert [server["url"] for server in document["servers"]] == ["."]


def test_every_reference_leads_somewhere_and_every_component_is_referred_to(document: dict[str, Any]) -> None:
    used = {node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)}
    components = {kind: named for kind, named in document["components"].items() if kind != "securitySchemes"}
    assert used == {f"#/components/{kind}/{name}" for kind, named in components.items() for name in named}


def test_every_example_works_when_it_is_tried_and_gets_the_headers_that_were_promised(
    client: TestClient, operations: list[Operation], document: dict[str, Any]
) -> None:
    for operation in operations:
        path = operation.example_path(document)
        bodies = operation.example_bodies() if "requestBody" in operation.content else [None]
        promised = operation.content["responses"]["200"]
        contents, headers = promised["content"], {"x-request-id"}
        assert JSON not in contents or next(iter(contents)) == JSON, "generators take the first"
        for body in bodies:
            answer = client.request(operation.method, path, json=body)
            assert answer.status_code == 200, answer.text
            media_type = answer.headers["content-type"].split(";")[0]
            assert media_type in contents
            if media_type == JSON:
                kind = TypeAdapter(type_of(contents[JSON]["schema"]))
                # All that is there, and nothing else: of what is not described no client would know.
                assert kind.dump_python(kind.validate_python(answer.json()), exclude_unset=True) == answer.json()
            headers |= {"server-timing"} & set(answer.headers)
        assert {name.lower() for name in promised["headers"]} == headers, operation.path

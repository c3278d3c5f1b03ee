"""Requests made from the OpenAPI document, right and wrong, alone and in sequences; the answers held to it too."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import Interaction, ScenarioRecorder

from tests.hostile import promises
from tests.hostile.siege import Siege
from tests.hostile.wire import Answer

# Limits of the operator and the checkpoint, and what fields must be together, are not in the document.
RIGHT = ["2XX", "304", "401", "403", "404", "409", "413", "422", "429", "503", "504"]
NO_FAILURE = ["2XX", "3XX", "4XX", *map(str, promises.NOT_NOW)]


def explore(siege: Siege, requests: int, seed: int | None = None) -> list[str]:
    """Send this many requests or more; what was wrong with them. Without a seed they are other ones each time."""
    document = _tolerant(siege.document)
    operations = sum(map(len, document["paths"].values()))
    config = SchemathesisConfig.from_dict(_configuration(siege.port, max(1, requests // operations), seed))
    found: list[str] = []
    for event in from_schema(schemathesis.openapi.from_dict(document, config=config)).execute():
        match event:
            case events.ScenarioFinished():
                found += _wrong(siege, event.recorder)
                siege.check_good()
            case events.NonFatalError():
                found.append(f"{event.label}: {event.value}")
            case events.FatalError():
                raise event.exception
    return found


def _configuration(port: int, examples: int, seed: int | None) -> dict[str, Any]:
    page = {  # GET is the page, which is not in the document
        "include-path": "/",
        "checks": {"unsupported_method": {"enabled": False}, "allow_header_conformance": {"enabled": False}},
    }
    return {
        "base-url": f"http://127.0.0.1:{port}",
        "continue-on-failure": True,
        "generation": {"max-examples": examples, "mode": "all", "database": "none"},
        "checks": {
            "not_a_server_error": {"expected-statuses": NO_FAILURE},
            "positive_data_acceptance": {"expected-statuses": RIGHT},
        },
        "operations": [page],
        **({} if seed is None else {"seed": seed}),
    }


def _tolerant(document: dict[str, Any]) -> dict[str, Any]:
    """As this service is: API keys are off, and an `X-Request-ID` of another form is no error, it is replaced."""
    tolerant = deepcopy(document)
    tolerant["components"]["parameters"]["RequestId"]["schema"] = {"type": "string"}
    for secured in (tolerant, *(operation for item in tolerant["paths"].values() for operation in item.values())):
        secured.pop("security", None)
        # A schema is of one event there; ours is of the whole stream.
        secured.get("responses", {}).get("200", {}).get("content", {}).get(promises.EVENTS, {}).pop("schema", None)
    return tolerant


def _wrong(siege: Siege, recorder: ScenarioRecorder) -> Iterator[str]:
    for number, interaction in recorder.interactions.items():
        for failure in (check.failure_info for check in recorder.checks.get(number, ()) if check.failure_info):
            yield f"{_told(interaction)}: {failure.failure}"
        try:
            _check(siege, interaction)
        except Exception as error:
            yield f"{_told(interaction)}: {type(error).__name__}: {error}"


def _check(siege: Siege, interaction: Interaction) -> None:
    response = interaction.response
    assert response is not None, "no answer"
    answer = Answer(
        response.status_code, {name: values[0] for name, values in response.headers.items()}, response.content
    )
    siege.tally.count(str(answer.status), response.elapsed, _told(interaction))
    if not response.stream_cut_short:  # it reads no stream to the end that is long
        promises.check(answer, with_body=interaction.request.method != "HEAD")


def _told(interaction: Interaction) -> str:
    request = interaction.request
    return f"{request.method} {request.uri} {request.body[:200] if request.body else ''!r}"

"""What holds for every answer, whatever was asked."""

import re
from typing import Any

from app.schemas import Problem
from tests.hostile.texts import SECRET
from tests.hostile.wire import Answer

PROBLEM, EVENTS = "application/problem+json", "text/event-stream"
NOT_NOW = (503, 504)  # the only failures of the service that bad input may meet


def check(answer: Answer, *, with_body: bool = True) -> None:
    """The answer is a success or a problem, no failure of the service's own, and tells no text of its caller."""
    assert answer.status < 500 or answer.status in NOT_NOW, answer
    request_id = answer.headers["x-request-id"]
    assert re.fullmatch("[A-Za-z0-9._-]{1,128}", request_id), answer
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1, answer
    if answer.status >= 400:
        assert answer.headers["content-type"] == PROBLEM, answer
    if not with_body:
        assert answer.body == b"", answer
    elif answer.status >= 400:
        _check_problem(answer.json(), answer.status, request_id)
    elif answer.headers.get("content-type") == "application/json":
        for problem in _problems(answer.json()):
            _check_problem(problem, problem["status"], request_id)
    elif answer.headers.get("content-type", "").startswith(EVENTS):
        assert answer.body.endswith(b"event: done\ndata: {}\n\n"), answer


def _problems(content: Any) -> list[Any]:
    """The texts of a batch that failed."""
    results = content.get("results", ()) if isinstance(content, dict) else ()
    return [result["error"] for result in results if "error" in result]


def _check_problem(content: Any, status: int, request_id: str) -> None:
    problem = Problem.model_validate(content)
    assert problem.model_dump() == content
    assert status < 500 or status in NOT_NOW, problem
    assert (problem.status, problem.request_id) == (status, request_id)
    assert problem.error == problem.detail != ""
    assert problem.type == f"urn:precis:problem:{problem.error_type}"
    assert SECRET not in str({**content, "instance": "the path that was asked for"}), problem

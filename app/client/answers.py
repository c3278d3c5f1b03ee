"""What is answered: a result, or the error to raise. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from httpx2 import ServerSentEvent
from pydantic import ValidationError

from app.client.calls import A
from app.client.errors import OF_STATUS, ApiError, UnexpectedAnswerError
from app.client.retries import moment_of, seconds_of
from app.schemas import Problem, Summary, TokenEvent


def result(answer: type[A], body: str | bytes) -> A:
    """Raises UnexpectedAnswerError, which quotes nothing of what came: it may hold a caller's text."""
    try:
        return answer.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "/".join(map(str, wrong["loc"])) or "the whole"
        raise UnexpectedAnswerError(
            f"the answer is not a {answer.__name__} of Precis: {where}: {wrong['type']}"
        ) from None


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that an answer with another status than 200 means."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return _error(status, "the answer says nothing more; something before the service may have given it", headers)
    return _error(status, problem.detail, headers, problem)


def streamed(event: ServerSentEvent) -> TokenEvent | Summary | None:
    """What an event of a stream means to callers; None for one that means nothing to them. Raises an `error` event."""
    if event.event == "token":
        return result(TokenEvent, event.data)
    if event.event == "summary":
        return result(Summary, event.data)
    if event.event == "error":
        problem = result(Problem, event.data)
        raise _error(problem.status, problem.detail, {}, problem)
    return None


def _error(status: int, detail: str, headers: Mapping[str, str], problem: Problem | None = None) -> ApiError:
    # Dates of one answer are compared with each other: the clocks of two machines differ.
    now = moment_of(headers.get("Date", "")) or datetime.now(UTC)
    return OF_STATUS.get(status, ApiError)(
        status,
        detail,
        problem=problem,
        request_id=headers.get("X-Request-ID") or (problem.request_id if problem else None),
        retry_after=seconds_of(headers.get("Retry-After", ""), now),
    )

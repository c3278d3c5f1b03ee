"""A replica that is full refuses by itself, through Ray Serve as without it."""

from concurrent.futures import ThreadPoolExecutor

from app.config import Settings
from app.schemas import Problem
from tests.api.waiting import eventually
from tests.ray.conftest import Deployed


def test_of_many_at_once_those_beyond_the_queue_get_the_services_own_503_and_the_others_their_summaries(
    short: Deployed, settings: Settings
) -> None:
    assert settings.max_rows is not None
    callers, most = 40, settings.max_queue + settings.max_rows
    with ThreadPoolExecutor(callers) as pool:
        short.hold()
        asked = [pool.submit(short.summarize, f"alpha bravo {number}") for number in range(callers)]
        eventually(lambda: sum(each.done() for each in asked) >= callers - most)
        short.go_on()
        answers = [each.result() for each in asked]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert callers - most <= len(refused) < callers
    for answer in refused:
        problem = Problem.model_validate_json(answer.content)
        assert (answer.status_code, problem.status, problem.error_type) == (503, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == problem.request_id

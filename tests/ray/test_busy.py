"""A replica that is full refuses by itself, through Ray Serve as without it."""

from concurrent.futures import ThreadPoolExecutor

from app.schemas import Problem
from tests.api.waiting import eventually
from tests.ray.conftest import Deployed


def test_of_many_at_once_those_beyond_the_queue_get_the_services_own_503_and_the_others_their_summaries(
    short: Deployed,
) -> None:
    callers = 40
    with ThreadPoolExecutor(callers) as pool:
        short.hold()
        asked = [pool.submit(short.summarize, f"alpha bravo {number}") for number in range(callers)]
        eventually(lambda: sum(each.done() for each in asked) >= callers - 8)
        short.go_on()
        answers = [each.result() for each in asked]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert callers - 8 <= len(refused) < callers
    for answer in refused:
        problem = Problem.model_validate_json(answer.content)
        assert (answer.status_code, problem.status, problem.error_type) == (503, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == problem.request_id

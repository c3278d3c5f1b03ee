"""The tests of the API, through Ray Serve: all that need nothing but a client."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api import (
    test_body,
    test_catalog,
    test_docs,
    test_huggingface,
    test_middleware,
    test_operations,
    test_page,
    test_problems,
    test_stream,
    test_summaries,
)
from tests.api.waiting import PATIENCE
from tests.ray.conftest import Deployed
from tests.ray.others import reused

MODULES = (
    test_body,
    test_catalog,
    test_docs,
    test_huggingface,
    test_middleware,
    test_operations,
    test_page,
    test_problems,
    test_stream,
    test_summaries,
)

NOT_THROUGH_RAY = {
    "test_another_request_id_is_replaced",  # only in the body: Ray's proxy tells its caller's whatever it is
    # These count from the start of an application of their own.
    "test_a_request_is_counted_and_its_id_is_its_own",
    "test_every_promised_metric_is_there_after_a_summary",
    "test_routes_are_counted_by_template_so_that_callers_cannot_make_new_series",
    "test_what_is_too_large_is_counted_as_refused",
}

globals().update(reused(*MODULES, fixtures={"client", "settings"}, without=NOT_THROUGH_RAY))


class Redirected(httpx2.HTTPTransport):
    """Whatever host is asked, this address answers: the tests call it `testserver`, as their own client does."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx2.URL(url)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(host=self._url.host, port=self._url.port)
        return super().handle_request(request)


@pytest.fixture(scope="module")
def client(short: Deployed) -> Iterator[httpx2.Client]:
    transport = Redirected(short.url)
    with httpx2.Client(
        base_url="http://testserver", transport=transport, timeout=PATIENCE, follow_redirects=True
    ) as it:
        yield it

"""Every fact is tested of both clients."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.client.either import Either, connected

Connect = Callable[..., Either]


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one kind, and closes them."""
    with ExitStack() as stack:

        def connect(url: str, **options: Any) -> Either:
            client = connected(request.param, url, **options)
            stack.enter_context(client)
            return client

        yield connect

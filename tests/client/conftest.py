"""Every fact is tested of both clients."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.client.either import Either, connected

Connect = Callable[..., Either]


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def connect(kind: str) -> Iterator[Connect]:
    """Makes clients of one kind, and closes them."""
    with ExitStack() as stack:

        def connect(url: str, **options: Any) -> Either:
            client = connected(kind, url, **options)
            stack.enter_context(client)
            return client

        yield connect

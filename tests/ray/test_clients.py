"""The tests of both clients, through Ray Serve."""

from tests.client import test_service
from tests.client.conftest import connect, kind
from tests.ray.others import reused

__all__ = ["connect", "kind"]

globals().update(reused(test_service, fixtures={"service", "connect"}))

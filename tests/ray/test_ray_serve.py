"""What a replica is made of, in this process."""

import asyncio
from unittest.mock import AsyncMock

import pytest
from fastapi import FastAPI
from ray.exceptions import TaskCancelledError
from starlette.types import Message, Receive, Scope, Send

from app import ray_serve
from app.api.service import Service
from app.config import Settings
from app.errors import CheckpointError, DrainingError
from app.main import create_app
from app.ray_serve import Anywhere, Departing, Replica
from tests.fakes import FakeModel, fake_info

ROUTER = f"{Anywhere.__module__}.{Anywhere.__name__}"


@pytest.fixture
def app() -> FastAPI:
    return create_app(Settings(max_rows=8, max_queue=1), models=[FakeModel(fake_info("news-en"))])


def replica_of(app: FastAPI) -> Replica:
    replica = Replica(Settings())
    replica.app = app
    return replica


def test_a_caller_of_whom_ray_tells_no_more_has_left() -> None:
    async def receive() -> Message:
        raise TaskCancelledError

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        assert await receive() == {"type": "http.disconnect"}

    asyncio.run(Departing(app)({}, receive, AsyncMock()))


def test_a_replica_that_serves_is_well_until_it_has_not_been_ready_for_long(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = app.state.service
    replica = replica_of(app)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            await replica.check_health()
            service.engines["news-en"].drain(0.0)
            assert not service.ready
            await replica.check_health()
            monkeypatch.setattr(ray_serve, "PATIENCE_SECONDS", 0.0)
            with pytest.raises(DrainingError, match="not ready"):
                await replica.check_health()

    asyncio.run(live())


def test_a_replica_that_never_was_ready_is_not_well(app: FastAPI) -> None:
    app.state.service.loading = False
    with pytest.raises(DrainingError):
        asyncio.run(replica_of(app).check_health())


def test_a_replica_waits_while_its_model_is_loaded_and_tells_why_it_cannot_be(app: FastAPI) -> None:
    service: Service = app.state.service

    async def live() -> None:
        checking = asyncio.create_task(replica_of(app).check_health())
        for _ in range(3):
            await asyncio.sleep(ray_serve.LOOK_SECONDS)
            assert not checking.done()
        service.failure = "no such file"
        with pytest.raises(CheckpointError, match="no such file"):
            await checking

    asyncio.run(live())


def test_ray_chooses_a_replica_as_we_say_but_where_haproxy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ray_serve.HAPROXY, raising=False)
    assert ray_serve.deployment(Settings())._deployment_config.request_router_config.request_router_class == ROUTER
    monkeypatch.setenv(ray_serve.HAPROXY, "1")
    assert ray_serve.deployment(Settings())._deployment_config.request_router_config.request_router_class != ROUTER

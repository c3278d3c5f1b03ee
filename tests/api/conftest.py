"""The application on the fake model."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.service import Service
from app.config import Settings
from app.main import create_app
from app.models.base import Limits
from tests.fakes import FakeModel, fake_info

LIMITS = Limits(max_source_tokens=60, max_summary_tokens=64, max_beams=8)


@pytest.fixture
def model() -> Iterator[FakeModel]:
    model = FakeModel(fake_info("news-en", limits=LIMITS))
    yield model
    model.gate.open()


@pytest.fixture
def settings() -> Settings:
    return Settings(max_rows=8, max_queue=8, max_batch_texts=6, max_characters=2000, drain_seconds=20)


@pytest.fixture
def app(settings: Settings, model: FakeModel) -> FastAPI:
    return create_app(settings, models=[model])


@pytest.fixture
def service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


@pytest.fixture
def client(app: FastAPI, model: FakeModel) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
        model.gate.open()  # before the application stops: what still runs must be able to end

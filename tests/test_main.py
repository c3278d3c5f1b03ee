"""Assembly: what is loaded when, and what happens to what cannot be loaded."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.service import Service
from app.config import Settings
from app.engine.engine import threads_for
from app.errors import CheckpointError
from app.main import build_engine, create_app
from app.metrics import Metrics
from app.models import registry
from app.models.base import Seq2SeqModel
from tests.api.waiting import eventually
from tests.fakes import FakeModel, fake_info

Load = Callable[[str], Seq2SeqModel]


@pytest.fixture
def settings() -> Settings:
    return Settings(max_rows=8, drain_seconds=10)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Load]:
    """A model store in memory: by name, what loading does."""
    loads: dict[str, Load] = {}

    def load(_store: Path, name: str, **_options: Any) -> Seq2SeqModel:
        if name not in loads:
            raise CheckpointError(f"no checkpoint {name!r}")
        return loads[name](name)

    monkeypatch.setattr(registry, "available", lambda _store: sorted(loads))
    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr("app.main.verify", lambda _folder: fake_info().digest)
    return loads


def fake(name: str) -> FakeModel:
    return FakeModel(fake_info(name))


def broken(name: str) -> Seq2SeqModel:
    raise CheckpointError(f"{name}/model.safetensors\n does not have the digest of its manifest")


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]  # a FastAPI application
    return service


def test_nothing_is_loaded_before_start_up(settings: Settings, store: dict[str, Load]) -> None:
    store["news-en"] = broken
    app = create_app(settings)
    assert app.state.service.failure is None
    assert app.state.service.engines == {}


def test_every_checkpoint_of_the_store_is_served_and_a_broken_one_left_out(
    settings: Settings, store: dict[str, Load]
) -> None:
    store.update({"broken": broken, "mine": fake, "news-en": fake})
    with TestClient(create_app(settings)) as client:
        eventually(lambda: not service_of(client).loading)
        assert client.get("/readyz").status_code == 200
        assert {model["name"] for model in client.get("/models").json()["models"]} == {"mine", "news-en"}
        assert client.get("/models/broken").status_code == 404
        answer = client.post("/summarize", json={"text": "alpha", "model": "mine"}).json()
        assert answer["model"]["name"] == "mine"


def test_what_is_loaded_is_set_aside_before_it_is_served(
    settings: Settings, store: dict[str, Load], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[set[str]] = []
    monkeypatch.setattr("gc.freeze", lambda: served.append(set(service.engines)))
    store.update({"mine": fake, "news-en": fake})
    app = create_app(settings)
    service: Service = app.state.service
    with TestClient(app):
        eventually(lambda: not service.loading)
    assert served == [set(), {"news-en"}]


@pytest.mark.parametrize("load", [broken, None])
def test_without_the_default_model_there_is_no_service(
    settings: Settings, store: dict[str, Load], load: Load | None
) -> None:
    store["mine"] = fake
    if load:
        store["news-en"] = load
    with TestClient(create_app(settings)) as client:
        eventually(lambda: service_of(client).failure)
        failure = service_of(client).failure
        assert failure is not None
        assert "'news-en'" in failure
        assert "\n" not in failure
        assert client.get("/readyz").status_code == 503


def test_an_error_that_no_one_foresaw_while_loading_is_a_reason_too(settings: Settings, store: dict[str, Load]) -> None:
    def explode(_name: str) -> Seq2SeqModel:
        raise MemoryError

    store["news-en"] = explode
    with TestClient(create_app(settings)) as client:
        eventually(lambda: service_of(client).failure)
        assert str(service_of(client).failure).endswith("MemoryError")


def test_while_loading_the_service_is_alive_not_ready_and_refuses_work(
    settings: Settings, store: dict[str, Load]
) -> None:
    loaded = threading.Event()

    def load(name: str) -> Seq2SeqModel:
        assert loaded.wait(30)
        return fake(name)

    store["news-en"] = load
    with TestClient(create_app(settings)) as client:
        assert client.get("/livez").status_code == 200
        for response in (
            client.get("/readyz"),
            client.get("/models/news-en"),
            client.post("/summarize", json={"text": "alpha"}),
            client.post("/summarize/batch", json={"texts": ["alpha"]}),
        ):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        loaded.set()
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/summarize", json={"text": "alpha"}).status_code == 200


@pytest.mark.parametrize("served", [False, True], ids=["after its loading", "before"])
def test_a_model_that_comes_to_be_loaded_while_it_stops_is_stopped_too(
    settings: Settings, store: dict[str, Load], monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    app, go_on = create_app(settings), threading.Event()
    service: Service = app.state.service

    def slow(name: str) -> Seq2SeqModel:
        assert go_on.wait(30)
        if served:  # it is not yet known that the service stops
            service.draining = False
        return fake(name)

    store["news-en"] = slow
    drain = service.drain

    async def late() -> None:
        await drain()
        go_on.set()

    with TestClient(app):
        monkeypatch.setattr(service, "drain", late)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("precis-news-en")]


def test_stopping_answers_what_was_admitted(settings: Settings) -> None:
    model = fake("news-en")
    with TestClient(create_app(settings, models=[model])) as client:
        model.gate.close()
        answers: list[int] = []
        caller = threading.Thread(
            target=lambda: answers.append(client.post("/summarize", json={"text": "a"}).status_code)
        )
        caller.start()
        model.gate.wait_for_arrival(1)
        draining = threading.Thread(target=lambda: client.portal and client.portal.call(service_of(client).drain))
        draining.start()
        eventually(lambda: client.get("/readyz").status_code == 503)
        assert client.post("/summarize", json={"text": "a"}).status_code == 503
        model.gate.open()
        caller.join()
        draining.join()
        assert answers == [200]


@pytest.mark.parametrize(
    ("device", "chosen", "rows"), [("cpu", None, 64), ("cuda:0", None, 256), ("cpu", 16, 16), ("cuda:0", 16, 16)]
)
def test_rows_depend_on_the_device_unless_they_are_chosen(device: str, chosen: int | None, rows: int) -> None:
    service, metrics = Service(Settings(max_rows=chosen), Metrics()), Metrics()
    service.metrics = metrics
    model = FakeModel(fake_info(device=device))
    service.add(build_engine(model, service))
    threads = threads_for(model.info, rows)
    eventually(lambda: len(model.states) == threads)
    assert [len(state.slots) for state in model.states] == [rows // threads] * threads
    service.engines["fake"].drain(0)

"""A reload, with the model store in memory: what is served when, and what becomes of the old."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.reloads import Reloads
from app.api.service import Service
from app.config import Settings
from app.errors import CheckpointError
from app.main import create_app
from app.models import registry
from app.models.base import Limits, Seq2SeqModel
from tests.api.waiting import eventually
from tests.fakes import FakeModel, Row, fake_info
from tests.reliability.small import ADMINISTRATOR, KEYS

LIMITS = Limits(max_source_tokens=60, max_summary_tokens=64, max_beams=8)
LONG = "alpha bravo " * 500  # is tokenized in a thread


def digest(number: int) -> str:
    return f"sha256:{number:064}"


class Store:
    """Checkpoints by name: what its digest is, or why it has none, and what loading makes of it."""

    def __init__(self) -> None:
        self.numbers: dict[str, int | str] = {}
        self.load: Callable[[str], Seq2SeqModel] = self.fresh
        self.models: list[FakeModel] = []  # that were loaded

    def fresh(self, name: str) -> FakeModel:
        model = FakeModel(fake_info(name, digest=self.digest(name), limits=LIMITS))
        self.models.append(model)
        return model

    def digest(self, name: str) -> str:
        number = self.numbers.get(name, f"no checkpoint {name!r}")
        if isinstance(number, str):
            raise CheckpointError(number)
        return digest(number)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    store.numbers["news-en"] = 1
    monkeypatch.setattr(registry, "available", lambda _store: sorted(store.numbers))
    monkeypatch.setattr(registry, "load", lambda _store, name, **_options: store.load(name))
    monkeypatch.setattr("app.main.verify", lambda folder: store.digest(Path(folder).name))
    return store


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    settings = Settings(max_rows=8, drain_seconds=20, max_characters=20_000, api_keys=KEYS)
    with TestClient(create_app(settings), headers=ADMINISTRATOR) as client:
        eventually(lambda: not service_of(client).loading)
        yield client
        for model in store.models:
            model.gate.open()


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]  # a FastAPI application
    return service


def reload(client: TestClient, name: str = "news-en") -> Any:
    return client.post(f"/models/{name}/reload")


def reload_all(client: TestClient) -> None:
    """As SIGHUP does."""
    reloads: Reloads = client.app.state.reloads  # type: ignore[attr-defined]  # a FastAPI application
    assert client.portal is not None
    client.portal.call(reloads.begin_all)


def answered_by(client: TestClient, text: str = "alpha bravo", model: str = "news-en") -> str:
    answer = client.post("/summarize", json={"text": text, "model": model})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"]["digest"])


def outcomes(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    told = [line.split(" ") for line in lines if line.startswith("precis_reloads_total{")]
    return {name.split('"')[1]: float(value) for name, value in told if float(value)}


def test_a_new_checkpoint_is_served_at_once_and_told_of_everywhere(client: TestClient, store: Store) -> None:
    assert answered_by(client) == digest(1)
    store.numbers["news-en"] = 2
    answer = reload(client)
    assert answer.status_code == 200
    told = answer.json()
    assert told.pop("seconds") > 0
    assert told == {"name": "news-en", "digest": digest(2), "previous_digest": digest(1), "changed": True}
    assert answered_by(client) == digest(2)
    assert client.get("/models/news-en").json()["digest"] == digest(2)
    assert [model["digest"] for model in client.get("/models").json()["models"]] == [digest(2)]
    assert client.get("/readyz").status_code == 200
    assert outcomes(client) == {"changed": 1}


def test_the_same_checkpoint_is_left_as_it_runs(client: TestClient, store: Store) -> None:
    answer = reload(client).json()
    assert (answer["digest"], answer["previous_digest"], answer["changed"]) == (digest(1), digest(1), False)
    assert len(store.models) == 1
    assert outcomes(client) == {"unchanged": 1}


def spoil_file(store: Store) -> None:
    store.numbers["news-en"] = "news-en/model.safetensors: sha256 is 1,\n but the manifest says 2"


def spoil_load(store: Store) -> None:
    def load(_name: str) -> Seq2SeqModel:
        raise CheckpointError("news-en/config.json: no such key")

    store.numbers["news-en"], store.load = 2, load


def spoil_model(store: Store) -> None:
    def fail(_rows: list[Row]) -> None:
        raise RuntimeError("no such kernel")

    def load(name: str) -> Seq2SeqModel:
        model = store.fresh(name)
        model.before_step = fail
        return model

    store.numbers["news-en"], store.load = 2, load


def change_meanwhile(store: Store) -> None:
    def load(name: str) -> Seq2SeqModel:
        model = store.fresh(name)
        store.numbers[name] = 3
        return model

    store.numbers["news-en"], store.load = 2, load


def vanish(store: Store) -> None:
    del store.numbers["news-en"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_file, "model.safetensors: sha256 is 1, but the manifest says 2"),
        (spoil_load, "no such key"),
        (spoil_model, "the trial after loading failed"),
        (change_meanwhile, "changed while it was loaded"),
        (vanish, "no checkpoint 'news-en'"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line_and_the_old_goes_on(
    client: TestClient, store: Store, spoil: Callable[[Store], None], told: str
) -> None:
    fresh = store.load
    spoil(store)
    answer = reload(client)
    problem = answer.json()
    assert (answer.status_code, problem["error_type"]) == (422, "reload-failed")
    assert told in problem["detail"]
    assert problem["detail"].endswith(f"; {digest(1)} is served as before")
    assert "\n" not in problem["detail"]
    assert answered_by(client) == digest(1)
    assert client.get("/readyz").status_code == 200
    assert outcomes(client) == {"failed": 1}
    store.numbers["news-en"], store.load = 4, fresh
    assert reload(client).json()["digest"] == digest(4)


def test_what_nobody_foresaw_is_500_and_the_old_goes_on(store: Store) -> None:
    def load(_name: str) -> Seq2SeqModel:
        raise MemoryError

    app = create_app(Settings(max_rows=8, api_keys=KEYS))
    with TestClient(app, raise_server_exceptions=False, headers=ADMINISTRATOR) as client:
        eventually(lambda: not service_of(client).loading)
        store.numbers["news-en"], store.load = 2, load
        assert reload(client).status_code == 500
        assert answered_by(client) == digest(1)
        assert outcomes(client) == {"failed": 1}


def test_what_was_admitted_is_answered_by_the_old_checkpoint_and_then_that_is_gone(
    client: TestClient, store: Store
) -> None:
    gone, gate, tried = weakref.ref(store.models[0]), store.models[0].gate, len(store.models.pop().steps)
    gate.close()
    with ThreadPoolExecutor(8) as pool:
        admitted = [pool.submit(answered_by, client, "alpha")]
        gate.wait_for_arrival(tried + 1)  # what comes now may join the first in its next step, and waits for that
        admitted += [pool.submit(answered_by, client, f"alpha {number}") for number in range(7)]
        eventually(lambda: 'precis_queue_texts{model="news-en"} 7.0' in client.get("/metrics").text)
        store.numbers["news-en"] = 2
        assert reload(client).json()["digest"] == digest(2)
        assert answered_by(client) == digest(2)
        assert not any(answer.done() for answer in admitted)
        again = reload(client)
        assert (again.status_code, again.json()["error_type"]) == (409, "reload-running")
        gate.open()
        assert {answer.result() for answer in admitted} == {digest(1)}
    eventually(lambda: reload(client).status_code == 200)
    eventually(lambda: gone() is None)
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("precis-waiting")])


def test_work_that_found_the_old_checkpoint_but_came_too_late_for_it_is_done_by_the_new_one(
    client: TestClient, store: Store
) -> None:
    (old,) = store.models
    found, go_on, tokenize = threading.Event(), threading.Event(), old.tokenize

    def wait(text: str) -> Any:
        found.set()
        assert go_on.wait(30)
        return tokenize(text)

    old.tokenize = wait  # type: ignore[method-assign]  # a model that is slow
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(answered_by, client, LONG)
        assert found.wait(30)
        store.numbers["news-en"] = 2
        assert reload(client).status_code == 200
        eventually(lambda: reload(client).status_code == 200)  # the old one is gone
        go_on.set()
        assert answer.result() == digest(2)
    assert 'precis_refused_total{reason="draining"} 0.0' in client.get("/metrics").text


def test_only_one_reload_of_a_model_runs_at_a_time(client: TestClient, store: Store) -> None:
    loading, go_on, fresh = threading.Event(), threading.Event(), store.load

    def load(name: str) -> Seq2SeqModel:
        loading.set()
        assert go_on.wait(30)
        return fresh(name)

    store.numbers["news-en"], store.load = 2, load
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reload, client)
        assert loading.wait(30)
        assert reload(client).status_code == 409
        assert answered_by(client) == digest(1)
        assert client.get("/readyz").status_code == 200
        go_on.set()
        assert first.result().status_code == 200


def test_a_model_that_nobody_knows_is_404(client: TestClient) -> None:
    for name in ("nope", "..", "%2e%2e"):
        assert reload(client, name).status_code == 404


def test_a_service_that_loads_or_stops_does_not_reload(client: TestClient) -> None:
    service = service_of(client)
    service.loading = True
    assert reload(client, "other").status_code == 503
    service.loading, service.draining = False, True
    assert reload(client).status_code == 503


def test_a_service_that_stops_meanwhile_serves_nothing_new(client: TestClient, store: Store) -> None:
    fresh = store.load

    def load(name: str) -> Seq2SeqModel:
        service_of(client).draining = True
        return fresh(name)

    store.numbers["news-en"], store.load = 2, load
    assert reload(client).status_code == 503
    assert service_of(client).engines["news-en"].info.digest == digest(1)
    eventually(lambda: store.models[-1].occupied == 0)


def test_a_checkpoint_that_is_new_in_the_store_can_be_taken_up_by_its_name(client: TestClient, store: Store) -> None:
    store.numbers["mine"] = 7
    answer = reload(client, "mine").json()
    answer.pop("seconds")
    assert answer == {"name": "mine", "digest": digest(7), "changed": True}
    assert answered_by(client, model="mine") == digest(7)


def test_sighup_takes_up_what_is_new_or_changed_keeps_what_has_vanished_and_passes_over_what_is_broken(
    client: TestClient, store: Store
) -> None:
    store.numbers.update({"gone": 1, "mine": 1})
    reload_all(client)
    eventually(lambda: outcomes(client) == {"changed": 2, "unchanged": 1})
    del store.numbers["gone"]
    store.numbers.update({"another": 9, "broken": "broken/manifest.json: not valid JSON", "mine": 2, "news-en": 2})
    reload_all(client)
    eventually(lambda: outcomes(client).get("failed") == 1)
    reload_all(client)  # begins again when the first is over
    eventually(lambda: outcomes(client) == {"changed": 5, "failed": 2, "unchanged": 4})
    assert [answered_by(client, model=name) for name in ("another", "gone", "mine", "news-en")] == [
        digest(number) for number in (9, 1, 2, 2)
    ]
    assert "broken" not in service_of(client).engines


def test_models_that_were_given_are_served_as_they_are() -> None:
    model = FakeModel(fake_info("given"))
    with TestClient(create_app(Settings(max_rows=8, api_keys=KEYS), models=[model]), headers=ADMINISTRATOR) as client:
        reload_all(client)
        answer = reload(client, "given")
        if answer.status_code == 409:  # the first one still runs
            eventually(lambda: reload(client, "given").status_code == 200)
        eventually(lambda: outcomes(client).get("unchanged", 0) >= 2)


def test_what_has_gone_is_looked_for_in_what_was_set_aside(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    for name in ("freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: told.append(name))
    store.numbers["news-en"] = 2
    assert reload(client).status_code == 200
    eventually(lambda: told[:3] == ["freeze", "unfreeze", "freeze"])


def test_what_has_gone_is_looked_for_until_nothing_holds_it(client: TestClient, store: Store) -> None:
    held, (old,) = [service_of(client).engines["news-en"]], store.models
    gone = weakref.ref(old)
    store.models.clear()
    del old
    store.numbers["news-en"] = 2
    assert reload(client).status_code == 200
    assert reload(client).status_code == 409
    held.clear()
    eventually(lambda: reload(client).status_code == 200)
    assert gone() is None

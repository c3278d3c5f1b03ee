"""A real service changes its checkpoint while it is asked: no request fails, whatever lies in the store."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.restarts import CORRUPT, flipped_bit, new_card, reload_under_load
from benchmarks.systems import System
from tests.api.waiting import PATIENCE, eventually
from tests.reliability.small import ADMINISTRATOR, KEYS, NAME, bodies, ready, small, started
from tests.test_server import Process

CLIENTS = 6
LONG = "The river rose after three days of rain. " * 400


@pytest.fixture
def system(tmp_path: Path) -> System:
    return small(tmp_path / "small")


def test_under_load_no_request_fails_and_each_is_answered_by_what_was_served(system: System, tmp_path: Path) -> None:
    run = reload_under_load(system, bodies(system), CLIENTS, [new_card, *CORRUPT, new_card], 0.2, tmp_path)
    assert [reload.outcome for reload in run.reloads] == ["changed", *["failed"] * len(CORRUPT), "changed"]
    assert run.failed == 0
    assert run.processes[0] == run.processes[1]
    assert len({asked.digest for asked in run.asked}) == 3
    served, until = run.reloads[0].line["digest"], run.reloads[-1].began
    between = [asked.digest for asked in run.asked if run.reloads[0].ended < asked.sent and asked.ended < until]
    assert between
    assert set(between) == {served}


def ask(url: str, headers: dict[str, str], path: str, body: dict[str, Any]) -> httpx2.Response:
    return httpx2.post(url + path, json=body, headers=headers, timeout=PATIENCE)


def told(service: Process, event: str, times: int) -> Callable[[], bool]:
    return lambda: len(service.lines(event)) == times


WORK: list[tuple[str, dict[str, Any]]] = [
    ("/summarize", {"text": LONG}),
    ("/summarize", {"text": LONG, "truncation": "chunk", "stream": True}),
    ("/summarize/batch", {"texts": [LONG, "Rain fell."] * 8}),
    ("/attention", {"text": LONG, "truncation": "chunk"}),
    (f"/models/{NAME}", {"inputs": [LONG, "Rain fell."]}),
]


def test_every_kind_of_work_goes_on(system: System, tmp_path: Path) -> None:
    reloads = 3
    with started(system, tmp_path / "log", PRECIS_API_KEYS=KEYS) as service, ThreadPoolExecutor(2 * len(WORK)) as pool:
        eventually(lambda: ready(service))
        over = False

        def work(path: str, body: dict[str, Any]) -> list[httpx2.Response]:
            answers = []
            while not over:
                answers.append(ask(service.url, ADMINISTRATOR, path, body))
            return answers

        working = [pool.submit(work, path, body) for path, body in WORK * 2]
        readiness = pool.submit(lambda: Counter(ready(service) for _ in iter(lambda: over, True)))
        for number in range(1, 1 + reloads):
            new_card(Path(system.folder))
            service.stop(signal.SIGHUP)
            eventually(told(service, "reload changed", number))
            eventually(told(service, "model unloaded", number))
        over = True
        for one in working:
            for answer in one.result():
                assert answer.status_code == 200, answer.text
                assert "event: error" not in answer.text
                assert '"error":' not in answer.text
        assert not readiness.result()[False]


def test_it_is_told_over_http_too(system: System, tmp_path: Path) -> None:
    with started(system, tmp_path / "log", PRECIS_API_KEYS=KEYS) as service:
        eventually(lambda: ready(service))
        first = ask(service.url, ADMINISTRATOR, f"/models/{NAME}/reload", {}).json()
        assert not first["changed"]
        new_card(Path(system.folder))
        second = ask(service.url, ADMINISTRATOR, f"/models/{NAME}/reload", {}).json()
        assert (second["changed"], second["previous_digest"]) == (True, first["digest"])
        eventually(lambda: service.lines("model unloaded"))
        flipped_bit(Path(system.folder))
        failed = ask(service.url, ADMINISTRATOR, f"/models/{NAME}/reload", {})
        assert failed.status_code == 422
        assert failed.json()["detail"].startswith(f"{system.folder}/model.safetensors: ")
        answered = ask(service.url, ADMINISTRATOR, "/summarize", {"text": "Rain fell."}).json()
        assert answered["model"]["digest"] == second["digest"]


def test_sighup_while_it_starts_is_kept_for_later(system: System, tmp_path: Path) -> None:
    with started(system, tmp_path / "log") as service:
        service.stop(signal.SIGHUP)
        eventually(lambda: service.lines("reload unchanged"))
        assert ready(service)


def test_what_is_new_is_taken_up_and_what_has_vanished_goes_on(system: System, tmp_path: Path) -> None:
    store = Path(system.store)
    with started(system, tmp_path / "log") as service:
        eventually(lambda: ready(service))
        (store / NAME).rename(store / "other")
        service.stop(signal.SIGHUP)
        # "unchanged" where it was found by what still looked through the store at startup
        eventually(lambda: service.lines("reload changed") or service.lines("reload unchanged"))
        (line,) = service.lines("model is not in the store any more, and served all the same")
        assert (line["model"], line["level"]) == (NAME, "warning")
        for name in (NAME, "other"):
            answer = ask(service.url, {}, "/summarize", {"text": "Rain fell.", "model": name})
            assert json.loads(answer.text)["model"]["name"] == name

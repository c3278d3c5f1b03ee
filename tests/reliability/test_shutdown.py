"""A real service is stopped or killed: nothing that was accepted is lost, and nothing of it is left."""

import os
import signal
from pathlib import Path

import pytest

from benchmarks.asking import REFUSED, UNANSWERED
from benchmarks.restarts import new_card, still_there, stop_under_load
from benchmarks.systems import System, descendants
from tests.api.waiting import eventually
from tests.reliability.small import bodies, ready, small, started

CLIENTS = 8


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    return small(tmp_path_factory.mktemp("small"))


def test_a_stop_under_load_loses_nothing_that_was_accepted_and_leaves_nothing_behind(
    system: System, tmp_path: Path
) -> None:
    stop = stop_under_load(system, bodies(system), CLIENTS, seconds=0.5, folder=tmp_path)
    assert stop.lost == 0
    assert stop.status == 0
    assert stop.left_over == 0
    assert set(stop.kinds) <= {"200", "503", REFUSED, UNANSWERED}
    assert stop.kinds["200"] > CLIENTS
    assert stop.kinds[REFUSED] <= CLIENTS


def test_after_it_was_killed_its_processes_end_and_the_next_start_is_clean(
    system: System, tmp_path: Path, temporary: Path
) -> None:
    with started(system, tmp_path, TMPDIR=str(temporary)) as first:
        eventually(lambda: ready(first))
        family = descendants(first.process.pid)
        assert len(family) >= 2, "a server of forks, and a lane at least"
        os.kill(first.process.pid, signal.SIGKILL)
        first.wait()
        assert not still_there(family)
        eventually(lambda: not list(temporary.iterdir()))
    with started(system, tmp_path / "again", PRECIS_PORT=str(first.port)) as second:
        eventually(lambda: ready(second))
        assert second.port == first.port
        assert second.summarize().status_code == 200


@pytest.mark.parametrize("loaded", [False, True], ids=["while it starts", "while it reloads"])
def test_a_service_that_loads_a_checkpoint_stops_in_order(system: System, tmp_path: Path, loaded: bool) -> None:
    with started(system, tmp_path) as service:
        if loaded:
            eventually(lambda: ready(service))
            new_card(Path(system.folder))
            service.stop(signal.SIGHUP)
        family = descendants(service.process.pid)
        service.stop()
        assert service.wait() == 0
        assert not still_there(family)
    assert service.errors == b""

"""Replicas with models and processes of their own: they die, come and go under load."""

import os
import signal
from dataclasses import dataclass

import httpx2
import pytest

from benchmarks.processes import lanes
from benchmarks.ray_cluster import RayCluster, config
from benchmarks.ray_failures import Course, Happens, kill_a_node, kill_a_replica, scale, under_load
from benchmarks.systems import System
from tests.api.waiting import eventually
from tests.reliability.small import bodies, small

CLIENTS = 8
SECONDS = 0.5  # of load before and after


@dataclass(frozen=True)
class Small:
    """The small checkpoint, on a cluster."""

    cluster: RayCluster
    system: System

    @property
    def settings(self) -> dict[str, str]:
        names = ("PRECIS_MODEL_STORE", "PRECIS_MODEL", "PRECIS_PRECISION")
        return dict(zip(names, (self.system.store, self.system.model, self.system.precision), strict=True))

    def under_load(self, happens: Happens) -> Course:
        return under_load(self.cluster.url, bodies(self.system), CLIENTS, happens, SECONDS)

    def answered(self, course: Course) -> set[str]:
        """Requests of which a replica that lives tells that it has answered them."""
        logs = "".join(map(self.cluster.log_of, self.cluster.replicas()))
        return {each.name for each in course.asked if each.name in logs}


@pytest.fixture(scope="module")
def two(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Replicas, one on each node."""
    two = Small(cluster, small(tmp_path_factory.mktemp("small")))
    cluster.run(config(2, two.settings))
    return two


def test_a_replica_with_one_core_runs_its_model_in_one_process_of_its_own(two: Small) -> None:
    assert [len(lanes(pid)) for pid in two.cluster.replicas()] == [1, 1]


def test_both_replicas_are_asked(two: Small) -> None:
    course = two.under_load(lambda: 0.0)
    assert {each.kind for each in course.asked} == {"200"}
    for pid in two.cluster.replicas():
        assert any(each.name in two.cluster.log_of(pid) for each in course.asked)


def test_the_endpoint_of_a_node_tells_the_metrics_of_its_replica(two: Small) -> None:
    for node in two.cluster.nodes:
        url = f"http://{node.node_ip_address}:{node.metrics_export_port}/metrics"

        def told(url: str = url) -> bool:
            lines = [line for line in httpx2.get(url).text.splitlines() if line.startswith("ray_precis_requests_total")]
            return any('route="/summarize"' in line and 'deployment="precis"' in line for line in lines)

        eventually(told)


def test_when_a_replica_is_killed_only_what_was_in_flight_there_fails(two: Small) -> None:
    course = two.under_load(kill_a_replica(two.cluster))
    assert course.failed_later == []
    assert len(course.failed) <= CLIENTS
    assert {each.name for each in course.failed} & two.answered(course) == set()


def test_when_a_lane_is_killed_nothing_fails_and_its_replica_lives(two: Small) -> None:
    before = two.cluster.replicas()

    def happens() -> float:
        (lane,) = lanes(before[0])
        os.kill(lane, signal.SIGKILL)
        eventually(lambda: lanes(before[0]) not in ({lane}, set()))
        return 0.0

    assert two.under_load(happens).failed == []
    assert two.cluster.replicas() == before


def test_there_may_be_less_replicas_and_more_without_a_failed_request(two: Small) -> None:
    for replicas in (1, 2):
        course = two.under_load(scale(two.cluster, replicas, two.settings))
        assert course.failed == []
        assert len(two.cluster.replicas()) == replicas


def test_when_a_node_is_killed_only_what_was_in_flight_there_fails(two: Small) -> None:
    course = two.under_load(kill_a_node(two.cluster, 1, 1))
    assert course.failed_later == []
    assert len(course.failed) <= CLIENTS
    assert {each.name for each in course.failed} & two.answered(course) == set()


def test_a_setting_that_is_wrong_is_told_with_its_name_and_what_runs_goes_on(two: Small) -> None:
    with pytest.raises(RuntimeError) as raised:
        two.cluster.run(config(1, {**two.settings, "PRECIS_MAX_QUEUE": "0"}))
    assert "PRECIS_MAX_QUEUE: Input should be greater than or equal to 1, not '0'" in str(raised.value)
    assert httpx2.get(f"{two.cluster.url}/readyz").status_code == 200


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_loaded_is_told_with_its_reason(two: Small) -> None:
    with pytest.raises(RuntimeError) as raised:
        two.cluster.run(config(1, {**two.settings, "PRECIS_MODEL": "nope"}, max_constructor_retry_count=1))
    assert "cannot load the default model 'nope'" in str(raised.value)

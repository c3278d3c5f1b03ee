"""A cluster of two nodes with one core each, and services on it, one at a time: the one before leaves for the next."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Ray does when it is imported is not ours
    import ray.serve  # noqa: F401

from app.config import Settings, variable
from benchmarks.ray_cluster import RayCluster, config, ray_cluster
from tests.ray.serving import HOLD, STEP
from tests.test_server import PATIENT, Address

# HAProxy, where the environment asks for it: a replica that is to go waits until HAProxy has taken it off its list.
SOON = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3"}


class Deployed(Address):
    """One replica, on the fake model. Deployed already, it stays as it is."""

    def __init__(self, cluster: RayCluster, hold: Path, application: str, **settings: str) -> None:
        super().__init__(hold)
        self.url, self.port = cluster.url, cluster.port
        cluster.run(config(1, {HOLD: str(hold), **settings}, f"tests.ray.serving:{application}"))

    def step(self) -> None:
        """One, while it is held."""
        self._hold.with_name(STEP).touch()

    def go_on(self) -> None:
        super().go_on()
        self._hold.with_name(STEP).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster([1, 1], {"RAY_metrics_report_interval_ms": "1000", **SOON}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    hold = tmp_path_factory.mktemp("hold") / "hold"
    yield hold
    hold.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """As in the tests of the API."""
    return Settings(max_rows=8, max_queue=8, max_batch_texts=6, max_characters=2000, drain_seconds=20)


@pytest.fixture(scope="module")
def short(cluster: RayCluster, hold: Path, settings: Settings) -> Deployed:
    """Takes short texts, and few."""
    chosen = {variable(name): str(getattr(settings, name)) for name in settings.model_fields_set}
    return Deployed(cluster, hold, "short", **chosen)


@pytest.fixture(scope="module")
def service(cluster: RayCluster, hold: Path) -> Deployed:
    return Deployed(cluster, hold, "fake", PRECIS_MAX_ROWS="8", **PATIENT)

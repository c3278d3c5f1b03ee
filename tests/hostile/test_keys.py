"""With API keys on nothing is told without one, whatever is sent in its place."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import attacks
from tests.hostile.siege import Siege
from tests.hostile.wire import Answer
from tests.test_server import Process

KEY = "precis_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
HEALTH = ("/livez", "/readyz", "/health")
few = settings(max_examples=50, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("locked")
    keys = f"someone user sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"
    with Process(folder, module="app", PRECIS_TIMEOUT_MS="60000", PRECIS_API_KEYS=keys) as process:
        siege = Siege(process.port, folder / "output", KEY)
        yield siege
        siege.check_unharmed()


@few
@given(data=st.data())
def test_no_body_is_looked_at_without_a_key(locked: Siege, data: st.DataObject) -> None:
    answer = locked.attack(data.draw(attacks.hostile_bodies(attacks.routes_of(locked.document))))
    assert answer is None or turned_away(answer)


@few
@given(data=st.data())
def test_nothing_but_health_is_told_without_a_key(locked: Siege, data: st.DataObject) -> None:
    document = locked.document
    attack = data.draw(attacks.hostile_heads(attacks.routes_of(document), attacks.paths_of(document)))
    answer = locked.attack(attack)
    assert answer is None or turned_away(answer) or of_health(answer)


def turned_away(answer: Answer) -> bool:
    """Also what is no HTTP is."""
    if answer.status == 401:
        return answer.headers["www-authenticate"] == "Bearer"
    return answer.status == 400 and answer.headers["connection"] == "close"


def of_health(answer: Answer) -> bool:
    if not answer.body:  # of a HEAD
        return answer.status in (200, 422)
    content = answer.json()
    return content == {"status": "ok"} or content.get("instance") in HEALTH

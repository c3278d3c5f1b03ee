"""Whatever the body, method, path or header: a problem or an answer, and the next one is served."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import attacks
from tests.hostile.siege import GOOD, Siege
from tests.hostile.texts import LARGE, repeated
from tests.hostile.wire import Attack

few = settings(max_examples=80, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def json_attack(path: str, body: bytes) -> Attack:
    return Attack("POST", path.encode(), ((b"Content-Type", b"application/json"),), body)


@few
@given(data=st.data())
def test_hostile_bodies_are_answered_and_harm_nobody(siege: Siege, data: st.DataObject) -> None:
    siege.attack(data.draw(attacks.hostile_bodies(attacks.routes_of(siege.document))))


@few
@given(data=st.data())
def test_hostile_heads_are_answered_and_harm_nobody(siege: Siege, data: st.DataObject) -> None:
    document = siege.document
    siege.attack(data.draw(attacks.hostile_heads(attacks.routes_of(document), attacks.paths_of(document))))


@pytest.mark.parametrize("piece", ["a", " ", "😀", "\u0301", "مرحبا ", "\x00", "1 "])
def test_a_text_of_ten_million_characters_is_refused_in_its_own_place(siege: Siege, piece: str) -> None:
    texts = json.dumps([repeated(piece, LARGE), GOOD["text"]], ensure_ascii=False)
    answer = siege.attack(json_attack("/summarize/batch", b'{"texts": %s}' % texts.encode()))
    assert answer is not None
    huge, good = answer.json()["results"]
    assert huge["error"]["status"] == 413
    assert good["summary"]


@pytest.mark.parametrize("path", ["/summarize", "/attention", "/", "/models/news-en"])
def test_a_text_of_ten_million_characters_is_413_on_every_route(siege: Siege, path: str) -> None:
    (route,) = [route for route in attacks.routes_of(siege.document) if route.path == path]
    field, text = next(iter(route.example)), repeated("😀", LARGE)
    answer = siege.attack(json_attack(path, json.dumps({field: text}, ensure_ascii=False).encode()))
    assert answer is not None
    assert answer.status == 413

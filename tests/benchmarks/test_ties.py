from pathlib import Path

import pytest

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.base import Candidates, DecodingOptions, Shared, Special
from app.models.checkpoint import Checkpoint
from app.models.lstm.family import LSTMModel, load
from app.rules import Rules
from app.search import Answer, BeamSearch
from benchmarks.ties import WatchedSearch, Watcher, near_ties, read_cases, write
from tests.models.lstm.checkpoints import write_checkpoint
from tests.texts import CORPUS
from training.data import Pair

END = 2
CANDIDATES = Candidates(Shared(range(10)))


def watched(beams: int) -> WatchedSearch:
    options = DecodingOptions(num_beams=beams, max_length=3)
    special = Special(1, END)
    return WatchedSearch(
        BeamSearch(options, special, CANDIDATES), Rules(options, special, CANDIDATES, None), CANDIDATES
    )


def test_the_lead_of_a_greedy_choice_is_over_the_next_candidate() -> None:
    one = watched(1)
    one.advance([Answer(((5, -1.0), (6, -1.5)))])
    assert one.gap == 0.5
    one.advance([Answer(((7, -2.0), (5, -2.25)))])
    one.advance([Answer(((8, -1.0), (5, -9.0)))])
    assert one.gap == 0.25
    one.advance([Answer(((END, -1.0), (5, -9.0)))])
    assert one.search.found
    assert one.search.found.hypothesis.tokens == (5, 7, 8)


def test_the_lead_of_a_beam_is_of_the_last_extension_kept_over_the_first_left() -> None:
    one = watched(2)
    assert one.advance([Answer(((5, -1.0), (6, -3.0), (7, -7.0), (8, -8.0)))]) == [0, 0]
    assert one.gap == 4.0
    answers = [Answer(((5, -5.0), (6, -5.5), (7, -9.0), (8, -9.0))), Answer(((5, -2.0), (6, -3.25), (7, -9.0)))]
    assert one.advance(answers) == [1, 0]  # -5, -6; then -6.25
    assert one.gap == 0.25


@pytest.fixture
def model(tmp_path: Path) -> LSTMModel:
    return load(Checkpoint(write_checkpoint(tmp_path / "store")), device="cpu", precision="float32")


@pytest.mark.parametrize("beams", [1, 3])
def test_watched_texts_are_decoded_as_they_are_served(model: LSTMModel, beams: int) -> None:
    options = DecodingOptions(num_beams=beams, max_length=12, no_repeat_ngram_size=2)
    with Engine(model, max_rows=16, max_queue=100) as engine:
        served = [engine.submit([SummaryRequest(text, options)])[0].result().text for text in CORPUS]
    found = Watcher(model, options).watch([model.tokenize(text).ids for text in CORPUS])
    tokens = [one.search.found.hypothesis.tokens for one in found if one.search.found]
    assert [model.detokenize(ids).text for ids in tokens] == served
    assert all(one.gap > 0 for one in found)


def test_the_closest_of_many_texts_are_kept(model: LSTMModel, tmp_path: Path) -> None:
    pairs = [Pair(str(number), text, "") for number, text in enumerate([*CORPUS, ""])]
    every = near_ties(model, pairs, beams=2, keep=100)
    assert sorted(case.id for case in every) == [str(number) for number in range(len(CORPUS))]
    assert [case.gap for case in every] == sorted(case.gap for case in every)
    closest = near_ties(model, pairs, beams=2, keep=2)
    assert closest == every[:2]
    write(closest, tmp_path / "cases.jsonl")
    assert read_cases(tmp_path / "cases.jsonl") == closest

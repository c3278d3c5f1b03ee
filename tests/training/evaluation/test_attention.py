"""Attention is measured between words: where it falls, how it is spread, and whether it matters."""

import numpy as np
import pytest

from app.alignment import Aligned, Item, SummaryItem
from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.base import DecodingOptions
from tests.fakes import WORDS
from tests.training.evaluation.copying import CopyingModel
from training.evaluation.attention import LeaveOut, aligned_words, believe, leave_out
from training.evaluation.summarizing import summarize
from training.evaluation.truth import Share

GREEDY = DecodingOptions(num_beams=1, max_length=8)


def aligned(source: str, summary: dict[str, list[float]], copied: float = 1.0) -> Aligned:
    """Source words, and for each summary word its weights over them."""
    weights = np.array(list(summary.values()), np.float32)
    return Aligned(
        tuple(Item(word, 0, 0) for word in source.split()),
        tuple(SummaryItem(word, 0, 0, 0.0, copied) for word in summary),
        weights,
        weights.sum(0),
    )


def test_a_word_that_the_source_holds_once_should_be_looked_at() -> None:
    found = believe(
        [aligned("Bridge opens , old bridge closes", {"Opens": [0, 1, 0, 0, 0, 0], "closes": [1, 0, 0, 0, 0, 0]})]
    )
    assert found.on_match == found.copied_on_match == Share(1, 2)
    assert found.weight_on_match == 0.5


@pytest.mark.parametrize("word", ["bridge", "new", ","])
def test_words_that_stand_twice_or_nowhere_or_are_none_are_left_out(word: str) -> None:
    found = believe([aligned("Bridge opens , old bridge", {word: [0, 0, 1, 0, 0], "old": [0, 0, 0, 1, 0]})])
    assert found.on_match == Share(1, 1)


def test_words_that_were_not_copied_are_told_apart() -> None:
    found = believe([aligned("Bridge opens", {"opens": [0, 1]}, copied=0.4)])
    assert (found.on_match, found.copied_on_match) == (Share(1, 1), Share(0, 0))


def test_entropy_goes_from_one_word_to_all_alike() -> None:
    sharp, even = (
        believe([aligned("a bridge opens now", {"bridge": weights})]) for weights in ([0.0, 1.0, 0.0, 0.0], [0.25] * 4)
    )
    assert (sharp.entropy, sharp.normalized) == (0, 0)
    assert (even.entropy, even.normalized) == pytest.approx((np.log(4), 1))
    assert (sharp.sink, even.sink) == (1, 0.25)


def test_sinks_are_the_most_attended_word_and_punctuation() -> None:
    found = believe([aligned("Bridge opens .", {"new": [0.1, 0.2, 0.7], "opens": [0, 0.5, 0.5]})])
    assert found.sink == found.punctuation == pytest.approx(1.2 / 2)


def left_out(astray: int) -> LeaveOut | None:
    """16 different words in random order, many times."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.permutation(WORDS)[:16]) for _ in range(60)]
    requests = [SummaryRequest(text, GREEDY, attention=True) for text in texts]
    with Engine(CopyingModel(astray=astray), max_rows=8, max_queue=1000) as engine:
        written = summarize(engine, requests, "copying")
        return leave_out(engine, list(zip(texts, written, strict=True)), GREEDY, seed=1)


def test_without_the_words_that_it_attends_to_a_copying_model_writes_something_else() -> None:
    found = left_out(astray=0)
    assert found is not None
    assert found.attended.changed == Share(60, 60)
    # Of 560 ways to remove three of 16 words, 286 spare the three that are copied.
    assert found.random.changed.count / 60 == pytest.approx(1 - 286 / 560, abs=0.15)
    assert found.ratio == 60 / found.random.changed.count
    # What was copied has next to no probability where it does not stand any more.
    assert found.attended.drop > 8 > found.random.drop > 1


def test_attention_that_lies_is_found_out() -> None:
    found = left_out(astray=5)
    assert found is not None
    assert found.attended.changed == Share(0, 60)
    assert found.attended.drop == pytest.approx(0)
    assert found.ratio == 0


def test_a_text_with_few_words_is_not_taken_apart() -> None:
    text = "alpha bravo charlie delta echo"
    with Engine(CopyingModel(), max_rows=8, max_queue=10) as engine:
        (summary,) = summarize(engine, [SummaryRequest(text, GREEDY, attention=True)], "copying")
        assert leave_out(engine, [(text, summary)], GREEDY, seed=1) is None


def test_a_copying_model_is_believed() -> None:
    request = SummaryRequest("alpha bravo charlie delta", GREEDY, attention=True)
    for astray, expected in ((0, Share(3, 3)), (1, Share(0, 3))):
        with Engine(CopyingModel(astray=astray), max_rows=8, max_queue=10) as engine:
            found = believe(map(aligned_words, summarize(engine, [request], "copying")))
        assert found.on_match == expected

"""Unrelated text is appended to rows, and what that costs is measured row by row."""

from hypothesis import given
from hypothesis import strategies as st

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.base import DecodingOptions, Limits
from tests.fakes import WORDS as VOCABULARY
from tests.fakes import fake_info
from tests.training.evaluation.copying import CopyingModel
from training.data import Pair
from training.evaluation.long import LongInput, appended, long_input
from training.evaluation.summarizing import spaced, summarize
from training.evaluation.writing import CHARACTERS, WORDS

PAIRS = [
    Pair(str(row), " ".join(VOCABULARY[(row + word) % 26] for word in range(5 + row)), VOCABULARY[row])
    for row in range(12)
]
GREEDY = DecodingOptions(num_beams=1, max_length=8)


@given(st.integers(0, 60), st.integers(0, 5))
def test_a_text_is_continued_to_the_wanted_length_and_never_cut(length: int, seed: int) -> None:
    for pair, text in zip(PAIRS, appended(PAIRS, range(12), length, WORDS, seed), strict=True):
        assert f"{text} ".startswith(f"{pair.text} ")
        assert len(text.split()) == max(length, len(pair.text.split()))


def test_what_is_appended_is_other_rows_and_the_same_again_for_the_same_seed() -> None:
    two = [Pair("1", "alpha bravo", "a"), Pair("2", "charlie", "c")]
    assert appended(two, [0, 1], 4, WORDS, 1) == ["alpha bravo charlie charlie", "charlie alpha bravo alpha"]
    assert appended(PAIRS, range(12), 40, WORDS, 1) == appended(PAIRS, range(12), 40, WORDS, 1)
    assert appended(PAIRS, range(12), 40, WORDS, 1) != appended(PAIRS, range(12), 40, WORDS, 2)


def test_chinese_is_continued_without_spaces() -> None:
    pairs = [Pair("1", "桥梁 开放", "桥"), Pair("2", "会议。", "会")]
    assert appended(pairs, [0], 9, CHARACTERS, 1) == ["桥梁开放会议。会议"]


def measured() -> dict[str, LongInput]:
    """Lengths of 100 words and more, on a model that reads 150 tokens and copies the first three."""
    info = fake_info(limits=Limits(max_source_tokens=150, max_summary_tokens=12, max_beams=4))
    with Engine(CopyingModel(info), max_rows=8, max_queue=1000) as engine:
        plain = summarize(engine, [SummaryRequest(pair.text, GREEDY) for pair in PAIRS], "plain")
        entries = long_input(engine, PAIRS, plain, spaced(12, 6), GREEDY, seed=1)
    return {entry.system: entry for entry in entries}


def test_a_model_that_copies_the_beginning_loses_nothing_with_head() -> None:
    found = measured()
    assert found["plain"].rouge == found["1500, head"].rouge
    assert found["plain"].rouge[0].mean > 0
    assert all((one.mean, one.low, one.high) == (0, 0, 0) for one in found["1500, head"].change)
    assert (found["100, head"].truncated, found["1500, head"].truncated) == (0, 1)
    assert found["1500, head"].length == 1500


def test_parts_are_compared_where_the_head_leaves_something_out() -> None:
    found = measured()
    assert "100, chunk, joined" not in found
    assert found["300, chunk, first piece"].rouge == found["plain"].rouge
    assert found["300, chunk, joined"].change[0].mean < 0
    assert found["1500, chunk, joined"].rouge[0].mean < found["300, chunk, joined"].rouge[0].mean


def test_rows_are_taken_at_equal_distances() -> None:
    assert spaced(10, 3) == [0, 3, 6]
    assert spaced(3, 10) == [0, 1, 2]
    assert spaced(10, 0) == spaced(0, 10) == []

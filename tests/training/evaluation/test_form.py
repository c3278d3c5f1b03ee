"""Length and repetition of summaries."""

import pytest

from training.evaluation.form import form


def test_length_is_compared_with_the_mean_reference() -> None:
    found = form(["one two three", "four"], [["a b", "a b c d"], ["a"]], "en", ended=0.5)
    assert found.length == 2.0
    assert found.ratio == 2.0 / 2.0
    assert found.ended == 0.5


@pytest.mark.parametrize(
    ("summary", "bigrams", "words"),
    [
        ("Council approves new bridge", 0, 0),
        ("The bridge, the council says, is a Bridge", 0, 0),
        ("New bridge beside the new bridge", 1, 0),
        ("Council approves the the bridge", 0, 1),
        ("Go Go Go", 1, 1),
    ],
)
def test_what_stands_twice_is_seen_whatever_its_case(summary: str, bigrams: float, words: float) -> None:
    found = form([summary], [["x"]], "en")
    assert (found.repeated_bigrams, found.repeated_words) == (bigrams, words)


def test_chinese_words_may_share_characters_without_being_repeated() -> None:
    assert form(["中国国家主席访问中国人民大学"], [["中国"]], "zh").repeated_words == 0
    assert form(["访问中国中国"], [["中国"]], "zh").repeated_words == 1

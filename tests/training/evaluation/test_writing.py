"""Texts are split and counted as their language writes them."""

import pytest
from hypothesis import given

from tests.texts import texts
from training.evaluation.writing import CHARACTERS, WORDS, CharacterTokenizer, sentences, words, writing


@pytest.mark.parametrize(
    ("language", "expected"), [("en", WORDS), ("de", WORDS), ("zh", CHARACTERS), ("zh-Hans", CHARACTERS)]
)
def test_chinese_is_counted_in_characters(language: str, expected: object) -> None:
    assert writing(language) is expected


def test_abbreviations_do_not_end_a_sentence() -> None:
    text = "Mr. Smith paid 3.5 million for it. Was it worth it? He said yes."
    assert sentences(text, "en") == ["Mr. Smith paid 3.5 million for it.", "Was it worth it?", "He said yes."]


def test_chinese_sentences_end_with_their_own_signs() -> None:
    assert sentences("会议在北京举行。代表们讨论了计划！", "zh") == ["会议在北京举行。", "代表们讨论了计划！"]


@given(texts())
def test_sentences_lose_nothing_but_white_space(text: str) -> None:
    assert "".join("".join(sentences(text, "en")).split()) == "".join(text.split())


def test_words_are_lower_case_without_punctuation() -> None:
    assert words("The U.S. isn't “ready”, is it?", "en") == ["the", "u.s", "isn't", "ready", "is", "it"]


def test_characters_of_rouge_are_letters_and_digits_in_one_form() -> None:
    assert CharacterTokenizer().tokenize("ＧＤＰ增长 5.2%。") == list("gdp增长52")

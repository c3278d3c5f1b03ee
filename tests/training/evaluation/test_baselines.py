"""Baselines copy from the text, and fit the length of what is wanted."""

from training.evaluation.baselines import TextRank, baselines

TEXT = (
    "The weather was fine. The council of Greyford approved a new bridge over the river. Engineers of the council say "
    "that the new bridge over the river will open in 2031. Tea was served."
)
CHINESE = "今天天气很好。市议会批准了新的跨河大桥。工程师说新的跨河大桥将于明年开放。会后有茶。"


def test_headlines_are_compared_with_the_first_words_and_the_first_sentence() -> None:
    found = dict(baselines([TEXT], [["Council approves bridge"]], "en"))
    assert found["first 8 words"] == ["The weather was fine. The council of Greyford"]
    assert found["first sentence"] == ["The weather was fine."]
    assert len(found) == 5


def test_sentences_are_not_compared_with_a_few_words() -> None:
    found = dict(baselines([TEXT], [["one " * 9, "two " * 30, "two " * 20]], "en"))
    assert set(found) == {"first sentence", "TextRank, one sentence"}


def test_chinese_leads_are_characters() -> None:
    found = dict(baselines([CHINESE], [["市议会批准建桥"]], "zh"))
    assert found["first 16 characters"] == [CHINESE[:16]]
    assert found["first sentence"] == ["今天天气很好。"]
    assert "大桥" in found["TextRank, one sentence"][0]


def test_the_extracted_sentence_is_the_one_that_shares_most_with_the_others() -> None:
    assert TextRank("en")(TEXT).startswith("Engineers of the council")


def test_a_text_without_words_still_has_baselines() -> None:
    assert [summaries for _, summaries in baselines(["…"], [["Nothing"]], "en")] == [["…"]] * 5

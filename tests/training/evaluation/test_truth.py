"""What can be looked up is looked up: numbers whole, names as names, pairs side by side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.truth import Casing, Share, Truth, tokens, truth

SOURCE = (
    "Northwind Airlines cancelled 200 flights on Friday. Chief executive Dana Whitfield's plan, worth $1,500 or 3.5 "
    "percent of sales, was backed by the U.S. government in 2022, apple growers and Jean-Luc Moreau said."
)
CASING = Casing(
    [
        SOURCE,
        "They say that police slams the plan in May; it may end.",
        "An iPhone of Apple was seen here today, as Apple said when asked.",
    ]
)
FOUND, MISSING = Share(1, 1), Share(0, 1)


def check(summary: str, source: str = SOURCE) -> Truth:
    return truth([source], [summary], CASING)


@pytest.mark.parametrize("number", ["200", "1,500", "1500", "$1500", "3.5", "3.5%", "2022,", "2022's"])
def test_a_number_is_found_however_it_is_written(number: str) -> None:
    assert check(f"about {number}").numbers == FOUND


@pytest.mark.parametrize("number", ["20", "2", "500", "15", "3", "5", "35", "0.5", "2022.5", "202", "3,5"])
def test_a_part_of_a_number_is_not_that_number(number: str) -> None:
    assert check(f"about {number}").numbers == MISSING


@pytest.mark.parametrize("summary", ["COVID-19 cases", "G7 plan", "an MX-16 crash"])
def test_digits_of_a_name_are_no_number(summary: str) -> None:
    found = check(summary)
    assert found.numbers == found.number_pairs == Share(0, 0)
    assert found.names == MISSING


def test_digits_behind_a_common_word_are_a_number() -> None:
    assert check("the under-20 team").numbers == MISSING
    assert check("seven of the G7", "the 7 of the G7").names == FOUND
    assert check("all 7 of them", "the G7").numbers == FOUND


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_numbers_are_equal_or_not(one: int, other: int) -> None:
    assert check(f"{one:,} seen", f"as {other} were").numbers == Share(one == other, 1)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("200 flights cancelled", FOUND),
        ("200 people cancelled", MISSING),
        ("Up 3.5% this year", FOUND),
        ("Up 3.5 per cent", FOUND),
        ("Plan of 2022", Share(0, 0)),
        ("In 2022, apple growers", Share(0, 0)),
    ],
)
def test_a_number_is_checked_with_the_word_after_it(summary: str, expected: Share) -> None:
    assert check(summary).number_pairs == expected


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("Whitfield speaks", FOUND),
        ("WHITFIELD's plan", FOUND),
        ("plan of the US", FOUND),
        ("plan of Luc", FOUND),
        ("plan of Smith", MISSING),
        ("an iPhone", MISSING),
        ("the Apple plan", FOUND),
        ("Police Slams Plan", Share(0, 0)),
        ("what I say, I'm told", Share(0, 0)),
        ("police say", Share(0, 0)),
    ],
)
def test_a_name_is_what_the_data_write_with_a_capital(summary: str, expected: Share) -> None:
    assert check(summary).names == expected


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("Dana Whitfield resigns", FOUND),
        ("Jean-Luc Moreau resigns", FOUND),
        ("Jean Luc Moreau resigns", FOUND),
        ("Dana Moreau resigns", MISSING),
        ("Whitfield Dana resigns", MISSING),
        ("Dana's Whitfield plan", Share(0, 0)),
        ("Dana, Moreau resign", Share(0, 0)),
        ("Dana and Moreau resign", Share(0, 0)),
        ("Northwind Airlines, Dana Moreau", Share(1, 2)),
    ],
)
def test_names_that_follow_each_other_stand_so_in_the_source(summary: str, expected: Share) -> None:
    assert check(summary).multi_word_names == expected


def test_titles_teach_nothing_about_capitals() -> None:
    title = "Police Arrest Man After Police Chase Man, Arrest Three"
    casing = Casing([title, title, "people say that police arrest many"])
    assert not any(casing.is_name(word) for word in tokens("Police Arrest"))


_PIECES = [
    "Dana",
    "Whitfield",
    "Jean-Luc",
    "the",
    "plan",
    "200",
    "1,500",
    "3.5%",
    "U.S.",
    "COVID-19",
    "O'Neil's",
    "(and",
    "said),",
    "2022.",
]


@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=20), st.data())
def test_whatever_is_cut_out_of_the_source_is_true(pieces: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(pieces) - 1))
    end = data.draw(st.integers(start + 1, len(pieces)))
    found = check(" ".join(pieces[start:end]), " ".join(pieces))
    for name in Truth.__slots__:
        share: Share = getattr(found, name)
        assert share.count == share.of, name


def test_chinese_numbers_are_checked_with_the_character_behind_them() -> None:
    source = "市议会批准了3座新桥，GDP增长5.2％，耗资20亿元。"
    found = check("批准3座新桥耗资20万元，增长5.2%", source)
    assert (found.numbers, found.number_pairs, found.names) == (Share(3, 3), Share(2, 3), Share(0, 0))
    assert check("GDP增长2亿", source).numbers == MISSING
    assert check("GDP增长5.2％", source) == Truth(FOUND, FOUND, FOUND, Share(0, 0))


def test_shares_are_pooled_over_summaries() -> None:
    found = truth([SOURCE, SOURCE], ["200 in 2022", "20 flights"], CASING)
    assert found.numbers == Share(2, 3)
    assert found.numbers.percent == pytest.approx(200 / 3)
    assert Share(0, 0).percent is None

"""What stands in the terminal: readable without colours, in whole lines, with nothing that steers."""

import contextlib
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from app.cli.heatmap import BLOCKS, show
from app.cli.places import view
from tests.cli.test_places import response

WIDTH = 70
TEXT = "Greyford approved the bridge."
SPANS = [(0, 8), (9, 17), (18, 21), (22, 28), (28, 29)]
ROWS = [[0.95, 0.03, 0.0, 0.02, 0.0], [0.0, 0.0, 0.1, 0.9, 0.0]]


def shown(text: str, spans: list[tuple[int, int]], rows: list[list[float]], used: int | None = None) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(WIDTH))
        answer = response(text, spans, rows, used)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            show(view(text, answer), answer, 3)
    return output.getvalue()


def test_each_word_of_the_summary_has_the_words_it_looks_at_strongest_first() -> None:
    lines = shown(TEXT, SPANS, ROWS).splitlines()
    first = next(line for line in lines if "Greyford 95%" in line)
    assert first.split() == ["w", "50%", "█", "Greyford", "95%", "▁", "approved", "3%", "bridge", "2%"]
    assert any("bridge 90%" in line and "the 10%" in line for line in lines)


def test_blocks_stand_below_their_words_as_high_as_their_share_of_the_attention() -> None:
    lines = shown(TEXT, SPANS, ROWS).splitlines()
    below = lines[lines.index(TEXT) + 1]
    assert below.rstrip() == "████████ ▁▁▁▁▁▁▁▁ ▁▁▁ ██████"


def test_wide_characters_have_wide_blocks() -> None:
    lines = shown("大桥通车", [(0, 2), (2, 4)], [[1.0, 0.0]]).splitlines()
    assert lines[lines.index("大桥通车") + 1].rstrip() == "████"


def test_what_was_not_read_is_told() -> None:
    assert "12 more characters were not read" in shown(TEXT, SPANS[:2], [[0.5, 0.5]], used=17)


def test_what_fell_beside_the_text_is_told() -> None:
    answer = response(TEXT, SPANS, ROWS)
    rows = zip(answer.attention.summary_tokens, (0.25, 0.35), strict=True)
    words = [item.model_copy(update={"dropped": share}) for item, share in rows]
    answer = answer.model_copy(update={"attention": answer.attention.model_copy(update={"summary_tokens": words})})
    with contextlib.redirect_stdout(io.StringIO()) as output:
        show(view(TEXT, answer), answer, 3)
    assert "30% of the attention fell on what is not shown here." in output.getvalue()
    assert "of the attention fell" not in shown(TEXT, SPANS, ROWS)


def test_a_text_that_steers_terminals_steers_nothing() -> None:
    text = "a\x1b[2J\u202e b\r\n c"
    output = shown(text, [(0, 6), (7, 8), (11, 12)], [[0.5, 0.4, 0.1]])
    assert re.search("[\x1b\r\u202e]", output) is None


@given(
    words=st.lists(
        st.sampled_from(["bridge", "a", ",", "。", "大桥", "“", "e\u0301", "👩‍👩‍👧", "\n", "Friday"]), max_size=60
    )
)
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(words: list[str]) -> None:
    text = " ".join(words)
    spans = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    output = shown(text, spans, [[1 / len(spans)] * len(spans)] if spans else [])
    assert max(map(cell_len, output.splitlines())) <= WIDTH
    told = output.partition("part of it got:")[2]
    assert re.sub(rf"[\s{BLOCKS}]", "", told) == re.sub(r"\s", "", text)

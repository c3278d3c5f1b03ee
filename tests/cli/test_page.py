"""One file, whose only scripts and styles are its own, and in which every text is text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from app.cli.page import page
from app.cli.places import view
from tests.cli.test_places import response

TEXT = "Greyford approved the bridge."
SPANS = [(0, 8), (9, 17), (18, 21), (22, 28), (28, 29)]
ROWS = [[0.9, 0.06, 0.0, 0.04, 0.0], [0.0, 0.0, 0.1, 0.9, 0.0]]
HOSTILE = "</script><script>alert(1)</script> <img src=x onerror=alert(1)> \"' $text &amp; ]]>"


class Reader(HTMLParser):
    """Elements with their attributes, and the text below them by element."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts.setdefault(tag, []).append(data)

    def text(self, tag: str) -> str:
        return "".join(self.texts.get(tag, []))


def written(text: str, spans: list[tuple[int, int]], rows: list[list[float]], used: int | None = None) -> str:
    answer = response(text, spans, rows, used)
    return page(view(text, answer), answer)


def test_summary_and_text_are_there_whole_and_every_word_has_its_number() -> None:
    reader = Reader(written(TEXT, SPANS[:4], [row[:4] for row in ROWS], used=28))
    assert reader.text("h1") == "w w"
    assert "".join(reader.texts["p"][-8:]).endswith(TEXT)
    assert reader.text("del") == "."
    assert [at["data-row"] for _, at in reader.elements if "data-row" in at] == ["0", "1"]
    assert [at["data-column"] for _, at in reader.elements if "data-column" in at] == ["0", "1", "2", "3"]


def test_words_are_shaded_before_any_script_runs() -> None:
    shades = re.findall(r'data-column="\d+" class="w(\d)"', written(TEXT, SPANS, ROWS))
    assert shades == ["9", "1", "1", "9", "0"]


@given(text=st.lists(st.sampled_from([*"ab <>&\"'$`\n", "</script>", "<!--", "${title}"])).map("".join))
def test_whatever_a_text_holds_is_text(text: str) -> None:
    reader = Reader(written(text, [(0, len(text))] if text else [], [[1.0]] if text else []))
    assert [tag for tag, _ in reader.elements].count("script") == 2
    assert {tag for tag, _ in reader.elements}.isdisjoint({"img", "a", "link", "iframe"})
    assert text in reader.text("p")


def test_a_hostile_text_makes_no_element() -> None:
    plain, hostile = (Reader(written(text, [(0, len(text))], [[1.0]])) for text in ("x", HOSTILE))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert HOSTILE in hostile.text("p")


def test_nothing_is_loaded_and_only_its_own_script_and_style_may_run() -> None:
    content = written(TEXT, SPANS, ROWS)
    assert re.search(r"https?:|//\w|\ssrc=|\shref=|url\(|@import|\son\w+=|\sstyle=", content) is None
    reader = Reader(content)
    (policy,) = (at["content"] for _, at in reader.elements if "http-equiv" in at)
    script = re.findall(r"<script>(.*?)</script>", content, flags=re.S)
    style = re.findall(r"<style>(.*?)</style>", content, flags=re.S)
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (*style, *script)]
    assert policy == f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"


def test_an_empty_summary_has_a_page_too() -> None:
    assert re.findall(r'data-column="\d+" class="w(\d)"', written(TEXT, SPANS, [])) == ["0"] * 5


def test_the_numbers_are_those_of_the_view() -> None:
    (numbers,) = re.findall(r'id="numbers">(.*?)</script>', written(TEXT, SPANS, ROWS))
    assert json.loads(numbers)["weights"] == ROWS

"""The matrix as a PNG."""

import struct
import sys
from pathlib import Path

import pytest

from app.cli.picture import MOST_COLUMNS, draw
from app.cli.places import view
from app.errors import PrecisError
from tests.cli.conftest import Precis
from tests.cli.test_places import response


def test_it_is_a_picture_as_wide_as_the_text_is_long(tmp_path: Path) -> None:
    widths = []
    for words in (4, 40):
        text = "$a " * words
        spans = [(3 * word, 3 * word + 2) for word in range(words)]
        draw(view(text, response(text, spans, [[1 / words] * words])), tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        widths.append(struct.unpack(">I", content[16:20])[0])
    assert widths[0] < widths[1]


def test_characters_that_no_font_has_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\U0001fbfa\u1b00"
    draw(view(text, response(text, [(0, 1), (1, 2)], [[0.5, 0.5]])), tmp_path / "a.png")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_text_too_long_for_a_picture_is_refused(tmp_path: Path) -> None:
    spans = [(column, column + 1) for column in range(MOST_COLUMNS + 1)]
    text = "x" * len(spans)
    with pytest.raises(PrecisError, match="--html"):
        draw(view(text, response(text, spans, [[0.0] * len(spans)])), tmp_path / "a.png")


def test_an_empty_summary_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(PrecisError, match="empty"):
        draw(view("a", response("a", [(0, 1)], [])), tmp_path / "a.png")


def test_without_matplotlib_it_says_what_to_install_before_any_work(
    precis: Precis, texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "app.cli.picture")
    result = precis("attention", texts[0], "--png", texts[0].parent / "a.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "precis: a picture needs matplotlib, which is not installed: pip install matplotlib\n"

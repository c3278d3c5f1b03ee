"""Attention as a picture: the words of the summary down, those of the text across."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from app.cli.output import harmless, say
from app.cli.places import View
from app.errors import PrecisError

try:
    from matplotlib import font_manager
    from matplotlib.figure import Figure
except ImportError as error:
    raise PrecisError("a picture needs matplotlib, which is not installed: pip install matplotlib") from error

MOST_COLUMNS = 600
COLUMN, ROW = 0.24, 0.3  # inches
# The library's own font has no Chinese; of these what the system has is used.
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "SimHei")


def draw(view: View, path: Path) -> None:
    """A heatmap; the darker, the larger the weight; the share copied stands beside each word of the summary."""
    columns, rows = view.columns, view.rows
    if len(columns) > MOST_COLUMNS:
        raise PrecisError(f"a picture of {len(columns)} columns could not be read: try --html, or a shorter text")
    if not columns or not rows:
        raise PrecisError("the summary is empty: there is nothing to draw")
    labels = [labelled(harmless(item.text), item.copied) for item in rows]
    heatmap(view.weights, list(map(harmless, columns)), labels, path)


def heatmap(weights: ArrayLike, columns: Sequence[str], rows: Sequence[str], path: Path) -> None:
    """weights: (rows, columns), by the labels of both."""
    figure = Figure(figsize=(1.5 + COLUMN * len(columns), 1.8 + ROW * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    family = [*sorted({*FONTS} & {*font_manager.get_font_names()}, key=FONTS.index), "DejaVu Sans"]
    axes.set_xticks(range(len(columns)), columns, rotation=90, family=family, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, family=family, parse_math=False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    with warnings.catch_warnings(record=True) as missing:
        warnings.simplefilter("always")
        figure.savefig(path, dpi=110, format="png")
    if missing:
        say("no font of this system has all the characters of the picture; --html needs none")


def labelled(word: str, copied: float | None) -> str:
    """With the share that was copied, where that is known."""
    return word if copied is None else f"{word}  {copied:.0%} copied"

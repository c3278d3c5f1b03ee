"""Attention in a terminal. Heights of blocks tell it as colours do, so that it reads the same without them."""

import math
import re
from collections.abc import Iterator
from statistics import fmean

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.output import harmless
from app.cli.places import View, strongest
from app.schemas import AttentionResponse, SummaryItem

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDEST = 100  # cells of a line of text, on however wide a screen
MARGIN = 2  # cells at the end of a line where only signs may stand, which belong to the word before them
PALE, STRONG = (150, 170, 200), (0, 110, 255)  # ends of the scale, readable on dark and on light


def show(view: View, response: AttentionResponse, top: int) -> None:
    """The summary's words with the places that they look at, and the text with what is looked at in it."""
    console = Console(highlight=False)
    console.print(Text(harmless(response.summary), style="bold"))
    console.print()
    console.print(_table(view, top))
    console.print()
    console.print("The text, and how much of the attention each part of it got:", style="dim")
    console.print()
    for line in _lines(view, min(console.width, WIDEST)):
        console.print(line, no_wrap=True, crop=False, overflow="ignore")
    if dropped := [item.dropped for item in view.rows if item.dropped is not None]:
        console.print(f"{fmean(dropped):.0%} of the attention fell on what is not shown here.", style="dim")
    if view.unread.strip():
        console.print(f"{len(view.unread)} more characters were not read; --truncation chunk reads all.", style="dim")


def _table(view: View, top: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("summary", style="bold")
    table.add_column("copied", justify="right")
    table.add_column("where the model looked")
    columns = view.columns
    for item, weights in zip(view.rows, view.weights, strict=True):
        looks = [_look(columns[column], weights[column]) for column in strongest(weights, top)]
        table.add_row(harmless(item.text), _share(item), Text("  ").join(looks))
    return table


def _look(word: str, weight: float) -> Text:
    return Text.assemble((_block(weight), _style(weight)), f" {harmless(word)} ", (f"{weight:.0%}", "dim"))


def _share(item: SummaryItem) -> str:
    return "" if item.copied is None else f"{item.copied:.0%}"


def _block(share: float) -> str:
    """Of nothing worth showing a space, of everything a full block."""
    return BLOCKS[min(len(BLOCKS) - 1, max(0, math.ceil(share * (len(BLOCKS) - 1) - 0.2)))]


def _style(share: float) -> str:
    mixed = (round(pale + (strong - pale) * min(1.0, share)) for pale, strong in zip(PALE, STRONG, strict=True))
    return "rgb({},{},{})".format(*mixed)


def _lines(view: View, width: int) -> Iterator[Text]:
    """The text in lines of at most `width` cells; below each of them its blocks, where it has any."""
    letters, blocks = Text(), Text()
    for word, share in [*_words(view), ("\n", 0.0)]:
        size = cell_len(word)
        hangs = not any(map(str.isalnum, word)) and size <= MARGIN
        if word == "\n" or (letters and letters.cell_len + size > width - MARGIN * (not hangs)):
            yield from (letters, blocks) if blocks.plain.strip() else (letters,)
            letters, blocks = Text(), Text()
        if word != "\n":
            letters.append(word)
            blocks.append(_block(share) * size, _style(share))


def _words(view: View) -> Iterator[tuple[str, float]]:
    """Pieces that stay together, with their share of the largest coverage; the end of a line is one of its own."""
    shares = view.shares
    for place in view.places:
        share = 0.0 if place.column is None else shares[place.column]
        for piece in re.split("(\n)", place.text):
            yield (piece if piece == "\n" else harmless(piece)), share

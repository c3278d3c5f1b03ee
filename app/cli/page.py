"""Attention as one HTML file: nothing is loaded, and every word in it is text."""

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template

from app.cli.places import Place, View, strongest
from app.schemas import AttentionResponse

TOP = 3
SHADES = 9  # besides none: classes w0 to w9 of the style


def page(view: View, response: AttentionResponse) -> str:
    """The words of summary and text; each lights up what belongs to it in the other."""
    template, style, script = map(_read, ("page.html", "page.css", "page.js"))
    shares = view.shares
    numbers = json.dumps({"weights": view.weights, "shares": shares})
    return Template(template).substitute(
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}",
        style=style,
        script=script,
        numbers=numbers,
        summary="".join(_summary(view, response.summary)),
        title=escape(response.summary),
        text="".join(_place(place, shares) for place in view.places),
        unread=f"<del>{escape(view.unread)}</del>" if view.unread else "",
        rows="\n".join(_row(view, number) for number in range(len(view.rows))),
        model=escape(f"{response.model.name}, {response.model.digest}"),
    )


def _read(name: str) -> str:
    return files("app.cli").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """As a Content-Security-Policy names what may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _summary(view: View, summary: str) -> Iterator[str]:
    reached = 0
    for number, item in enumerate(view.rows):
        yield escape(summary[reached : item.start])
        told = "" if item.copied is None else f' title="{item.copied:.0%} copied"'
        yield f'<button type="button" data-row="{number}"{told}>{escape(item.text)}</button>'
        reached = item.end


def _place(place: Place, shares: Sequence[float]) -> str:
    if place.column is None:
        return escape(place.text)
    return f'<span data-column="{place.column}" class="w{_shade(shares[place.column])}">{escape(place.text)}</span>'


def _row(view: View, number: int) -> str:
    item, weights, columns = view.rows[number], view.weights[number], view.columns
    looks = "".join(
        f'<span class="w{_shade(weights[column])}">{escape(columns[column])}</span> {weights[column]:.0%} '
        for column in strongest(weights, TOP)
    )
    copied = "" if item.copied is None else f"{item.copied:.0%}"
    return f'<tr><th scope="row">{escape(item.text)}</th><td>{copied}</td><td>{looks}</td></tr>'


def _shade(share: float) -> int:
    return min(SHADES, max(0, math.ceil(share * SHADES - 0.2)))

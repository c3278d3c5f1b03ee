"""What people read: one line an error, and nothing of a text that could steer their terminal."""

import re
import unicodedata
from collections.abc import Sequence

import typer

from app.errors import FieldError, PrecisError, RequestError
from app.schemas import FieldProblem, Model, ModelAttention, Problem

# Where a request is wrong is told by JSON pointers; here it is a text or an option.
TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
PLACES = {"/text": "the text", "/summary": "--summary"}


def complain(error: PrecisError, place: str = "") -> None:
    """One line on standard error."""
    say(f"{place}: {told(error)}" if place else told(error))


def say(line: str) -> None:
    typer.echo(f"precis: {harmless(line)}", err=True)


def told(error: PrecisError) -> str:
    """In the words of the command line."""
    if wrong := _wrong_fields(error):
        return "; ".join(_field(each.pointer, each.message) for each in wrong)
    return " ".join(str(error).split())


def harmless(text: str) -> str:
    """One line: without control characters, turns of the direction of writing, and bytes of a name that are no text."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(character) else character for character in text)


def facts(model: Model) -> list[tuple[str, str]]:
    """What people want to know of a model, by name."""
    return [
        ("name", model.name),
        ("family", model.family),
        ("language", model.language),
        ("description", model.description),
        ("digest", model.digest),
        ("parameters", f"{model.parameter_count:,}"),
        ("computed", f"in {model.precision} on {model.device}"),
        *((name.replace("_", " "), str(value)) for name, value in model.limits),
        *((f"--{name.replace('_', '-')}", str(value)) for name, value in model.default_parameters),
        ("decoding", model.decoding),
        ("attention", _attention(model.attention)),
    ]


def _attention(attention: ModelAttention) -> str:
    """Numbers are those of `--layers` and `--heads`."""
    layers, heads = (
        ", ".join(map(str, usual)) if len(usual) < count else "all"
        for usual, count in ((attention.default_layers, attention.layers), (attention.default_heads, attention.heads))
    )
    return f"{attention.layers} layers of {attention.heads} heads; told unless chosen: layers {layers}, heads {heads}"


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Every column as wide as its longest; the last one ends where it ends."""
    from rich.cells import cell_len, set_cell_size

    shown = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)][:-1]
    for row in shown:
        cells = [set_cell_size(cell, width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))


def _steers(character: str) -> bool:
    return character in TURNS or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _wrong_fields(error: PrecisError) -> Sequence[FieldError | FieldProblem]:
    """Those that our own engine names, or a service."""
    if isinstance(error, RequestError):
        return error.errors
    problem = getattr(error, "problem", None)  # the client's errors are not imported for that
    return problem.errors if isinstance(problem, Problem) else ()


def _field(pointer: str, message: str) -> str:
    name = PLACES.get(pointer) or "--" + pointer.rpartition("/")[2].replace("_", "-")
    return re.sub(r"\b(num|max|min)_(beams|length)\b", r"--\1-\2", f"{name} {message}")

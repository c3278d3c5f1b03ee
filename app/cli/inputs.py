"""Texts to work on: whole files, or their lines. One that cannot be read is told in its own place; others go on."""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.cli.output import say
from app.errors import InputError

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """One text, or why there is none. `file` is as it was named, `line` counts from 1 when every line is a text."""

    file: str
    line: int | None
    text: str | InputError

    @property
    def place(self) -> str:
        """As compilers write it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


def read(files: Sequence[str], *, lines: bool, field: str | None = None) -> Iterator[Input]:
    """The texts in order; with `lines` as they come in. field: of lines that are JSON objects."""
    for file in files:
        try:
            with _opened(file) as stream:
                yield from _lines(file, stream, field) if lines else [Input(file, None, _text(stream.read()))]
        except OSError as error:
            yield Input(file, None, InputError(f"cannot be read: {error.strerror or error}"))


def _opened(file: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if file != STANDARD_INPUT:
        return Path(file).open("rb")
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if sys.stdin.isatty():
        say("reading standard input; end it with Ctrl-D")
    return contextlib.nullcontext(sys.stdin.buffer)


def _lines(file: str, stream: BinaryIO, field: str | None) -> Iterator[Input]:
    for number, line in enumerate(stream, 1):
        content = line.rstrip(b"\r\n")
        yield Input(file, number, _text(content) if field is None else _of_json(content, field))


def _text(content: bytes) -> str | InputError:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return InputError(f"not UTF-8: byte {error.start} is 0x{content[error.start]:02x}")


def _of_json(content: bytes, field: str) -> str | InputError:
    try:
        row = json.loads(content)
    except ValueError as error:
        return InputError(f"not JSON: {error}")
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        return InputError(f"not a JSON object with a string {field!r}")
    return str(row[field])


def named(file: str) -> str:
    """A file's name as Unicode, whatever bytes it is made of."""
    return os.fsencode(file).decode("utf-8", "replace")

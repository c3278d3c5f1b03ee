"""Numbers in digits are written as the source has them, or not at all.

A search that is held to its source may only begin, go on and end a number in such a way that the whole of it stands
there: 15 is not in 15,000, nor 20 in 2022. Digits that follow a letter belong to a name, which stands there as a whole
too: Q1 is not in FQ1. The digits of a name may be written as a number, but not the other way round. Digits and letters
are those of ASCII, in either case. What a number is said of is not looked at.
"""

import re
from collections.abc import Sequence
from functools import cached_property

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_NUMBER_OR_NAME = re.compile(rf"[A-Za-z]*{_NUMBER.pattern}")
_UNFINISHED = re.compile(rf"{_NUMBER_OR_NAME.pattern}[.,]?\Z")  # the next token may go on with it
_ENDING = re.compile(rf"{_UNFINISHED.pattern}|[a-z]+\Z")
_WITHIN = re.compile(r"[a-z0-9.,]+")
_GOING_ON = re.compile(r"[0-9.,]")


class Numerals:
    """What the tokens of a vocabulary write, and which of them can be part of a number.

    `pieces[token]` is the token's text with the space before it; "" for one that writes nothing by itself.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(piece.lower() or " " for piece in pieces)  # the end token ends a number too
        tokens = range(len(pieces))
        self.digits = frozenset(token for token in tokens if _NUMBER.search(self.pieces[token]))
        self.going_on = frozenset(token for token in tokens if _GOING_ON.match(self.pieces[token]))
        self.plain = frozenset(token for token in tokens if re.fullmatch("[0-9]+", self.pieces[token]))
        self._within = frozenset(token for token in tokens if _WITHIN.fullmatch(self.pieces[token]))
        self._open = frozenset(token for token in tokens if self.pieces[token].endswith(tuple("0123456789.,")))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self.pieces[token] for token in tokens)

    def ending(self, tokens: Sequence[int]) -> str:
        """The number, the name or the word that these tokens end with, which the next one may go on with; else ""."""
        start = len(tokens)
        while start and tokens[start - 1] in self._within:
            start -= 1
        found = _ENDING.search(self.text(tokens[max(start - 1, 0) :]))
        return found.group() if found else ""

    def is_open(self, tokens: Sequence[int]) -> bool:
        """Whether these may end with a part of a number: they nearly never do."""
        return bool(tokens) and tokens[-1] in self._open

    def numbers(self, source: Sequence[int], part: range) -> set[str]:
        """The numbers of a part of a source and the names that have any; what is cut at its edge belongs to it too."""
        start, end = part.start, part.stop
        while start > 0 and source[start] in self._within:
            start -= 1
        while end < len(source) and source[end] in self._within:
            end += 1
        text = self.text(source[start:end])
        return {*_NUMBER.findall(text), *_NUMBER_OR_NAME.findall(text)}


class SourceNumbers:
    """The numbers of a part of a source, and what may follow upon what a summary ends with."""

    def __init__(self, numerals: Numerals, source: Sequence[int], part: range) -> None:
        self._numerals = numerals
        self._source = source, part
        self._only: dict[str, tuple[int, ...]] = {}  # by the ending

    @cached_property
    def _numbers(self) -> set[str]:
        """Looked for when the first is to be written: most summaries have none."""
        return self._numerals.numbers(*self._source)

    @cached_property
    def _beginnings(self) -> set[str]:
        return {number[:end] for number in self._numbers for end in range(1, len(number) + 1)}

    def allow(self, tokens: Sequence[int], token: int) -> bool:
        """Whether this token may be written after those."""
        numerals = self._numerals
        if token not in numerals.digits and not numerals.is_open(tokens):
            return True
        ending = numerals.ending(tokens)
        if not self._is_whole(ending):
            return token in self._right(ending)
        return token not in numerals.digits or self._is_possible(ending + numerals.pieces[token])

    def only(self, tokens: Sequence[int]) -> Sequence[int] | None:
        """The few tokens that may be written amid a number; None where that is not so."""
        if not self._numerals.is_open(tokens):
            return None
        ending = self._numerals.ending(tokens)
        return None if self._is_whole(ending) else self._right(ending)

    def goes_on(self, tokens: Sequence[int], token: int) -> bool:
        """Whether this token goes on with a number of the source that those have begun."""
        ending = self._numerals.ending(tokens)
        return bool(ending) and not ending.isalpha() and ending + self._numerals.pieces[token] in self._beginnings

    def finished(self, tokens: Sequence[int]) -> int:
        """How many of these tokens are left when a mere part of a number at their end is taken away."""
        end = len(tokens)
        while not self._is_whole(self._numerals.ending(tokens[:end])):
            end -= 1
        return end

    def _right(self, ending: str) -> Sequence[int]:
        """What goes on with a part of a number; mere digits can only write the beginning of one."""
        if ending not in self._only:
            numerals = self._numerals
            self._only[ending] = tuple(
                token
                for token in numerals.going_on
                if (written := ending + numerals.pieces[token]) in self._beginnings
                or (token not in numerals.plain and self._is_possible(written))
            )
        return self._only[ending]

    def _is_possible(self, written: str) -> bool:
        """Whether these numbers are the source's; the last one, which nothing follows, may lack its end."""
        before, last = _taken_apart(written)
        if not all(number in self._numbers for number in before):
            return False
        return not last or last in self._beginnings or self._is_whole(last)

    def _is_whole(self, ending: str) -> bool:
        return not ending or ending.isalpha() or ending in self._numbers or ending.rstrip(".,") in self._numbers


def _taken_apart(written: str) -> tuple[list[str], str]:
    """The numbers and names in there that something follows, and the one at the end."""
    last = _UNFINISHED.search(written)
    return _NUMBER_OR_NAME.findall(written[: last.start()] if last else written), last.group() if last else ""

"""Numbers in digits are written as the source has them, or not at all.

A search that is held to its source may only begin, go on and end a number in such a way that the whole of it stands
there: 15 is not in 15,000, nor 20 in 2022. Digits that follow a letter belong to a name, which stands there as a whole
too: Q1 is not in FQ1. The digits of a name may be written as a number, but not the other way round. Digits and letters
are those of ASCII, in either case. What a number is said of is not looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_NUMBER_OR_NAME = re.compile(rf"[A-Za-z]*{_NUMBER.pattern}")
_UNFINISHED = re.compile(rf"{_NUMBER_OR_NAME.pattern}[.,]?\Z")  # the next token may go on with it
_ENDING = re.compile(rf"{_UNFINISHED.pattern}|[a-z]+\Z")
_WITHIN = re.compile(r"[a-z0-9.,]+")
_GOING_ON = re.compile(r"[0-9.,]")
_OTHER_WORD = "A"  # texts are lower-cased: no name begins with it


class Numerals:
    """What the tokens of a vocabulary write, and which of them can be part of a number.

    `pieces[token]` is the token's text with the space before it; "" for one that writes nothing by itself.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(piece.lower() or " " for piece in pieces)  # the end token ends a number too
        tokens = range(len(pieces))
        self.digits = tuple(token for token in tokens if _NUMBER.search(self.pieces[token]))
        self.going_on = tuple(token for token in tokens if _GOING_ON.match(self.pieces[token]))
        self._within = frozenset(token for token in tokens if _WITHIN.fullmatch(self.pieces[token]))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self.pieces[token] for token in tokens)

    def ending(self, tokens: Sequence[int]) -> str:
        """The number, the name or the word that these tokens end with, which the next one may go on with; else ""."""
        start = len(tokens)
        while start and tokens[start - 1] in self._within:
            start -= 1
        found = _ENDING.search(self.text(tokens[max(start - 1, 0) :]))
        return found.group() if found else ""

    def numbers(self, source: Sequence[int], part: range) -> set[str]:
        """The numbers of a part of a source and the names that have any; what is cut at its edge belongs to it too."""
        start, end = part.start, part.stop
        while start > 0 and source[start] in self._within:
            start -= 1
        while end < len(source) and source[end] in self._within:
            end += 1
        text = self.text(source[start:end])
        return {*_NUMBER.findall(text), *_NUMBER_OR_NAME.findall(text)}


@dataclass(frozen=True, slots=True)
class Next:
    """Tokens that would write a wrong number: (any,) ids, on the host; and those that go on with a right one."""

    wrong: Tensor
    going_on: frozenset[int]


class SourceNumbers:
    """The numbers of one source, and what may follow upon what a summary ends with."""

    def __init__(self, numerals: Numerals, numbers: set[str]) -> None:
        self._numerals = numerals
        self._numbers = numbers
        self._beginnings = {number[:end] for number in numbers for end in range(1, len(number) + 1)}
        self._known: dict[str, Next] = {}

    def after(self, tokens: Sequence[int]) -> Next:
        """What may be written after these tokens."""
        ending = self._numerals.ending(tokens)
        if ending.isalpha() and ending not in self._beginnings:
            ending = _OTHER_WORD  # most words: what may follow is worked out once for all of them
        if ending not in self._known:
            self._known[ending] = self._next(ending)
        return self._known[ending]

    def finished(self, tokens: Sequence[int]) -> int:
        """How many of these tokens are left when a mere part of a number at their end is taken away."""
        end = len(tokens)
        while not self._is_whole(self._numerals.ending(tokens[:end])):
            end -= 1
        return end

    def _next(self, ending: str) -> Next:
        numerals = self._numerals
        has_begun = ending and not ending.isalpha()
        going_on = frozenset(
            token for token in numerals.going_on if has_begun and ending + numerals.pieces[token] in self._beginnings
        )
        if self._is_whole(ending):
            wrong = [token for token in numerals.digits if not self._is_possible(ending + numerals.pieces[token])]
            return Next(torch.tensor(wrong, dtype=torch.long), going_on)
        right = [token for token in numerals.going_on if self._is_possible(ending + numerals.pieces[token])]
        others = torch.ones(len(numerals.pieces), dtype=torch.bool)
        others[right] = False
        return Next(others.nonzero().flatten(), going_on)

    def _is_possible(self, written: str) -> bool:
        """Whether every number in there is one of the source's; the last one may lack its end."""
        last = _UNFINISHED.search(written)
        before = written[: last.start()] if last else written
        if not all(number in self._numbers for number in _NUMBER_OR_NAME.findall(before)):
            return False
        return not last or last.group() in self._beginnings or self._is_whole(last.group())

    def _is_whole(self, ending: str) -> bool:
        return not ending or ending.isalpha() or ending in self._numbers or ending.rstrip(".,") in self._numbers

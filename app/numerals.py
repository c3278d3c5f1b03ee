"""Numbers in digits are written as the source has them, or not at all.

A search that is held to its source may only begin, go on and end a number in such a way that the whole of it stands
there: 15 is not in 15,000, nor 20 in 2022. Digits that follow a letter belong to a name, which stands there as a whole
too: Q1 is not in FQ1. The digits of a name may be written as a number, but not the other way round. Digits and letters
are those of ASCII, in either case. What a number is said of is not looked at.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.models.base import Candidates

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_NUMBER_OR_NAME = re.compile(rf"[A-Za-z]*{_NUMBER.pattern}")
_UNFINISHED = re.compile(rf"{_NUMBER_OR_NAME.pattern}[.,]?\Z")  # the next token may go on with it
_ENDING = re.compile(rf"{_UNFINISHED.pattern}|[a-z]+\Z")
_WITHIN = re.compile(r"[a-z0-9.,]+")
_GOING_ON = re.compile(r"[0-9.,]")
OTHER_WORD = "A"  # texts are lower-cased: no name begins with it


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
        # Nearly always a word's last token begins it, and what may follow was asked before: both are worked out once.
        self._endings = {token: _ending(self.pieces[token]) for token in tokens if token not in self._within}
        self._common = {ending: Digits(self, ending) for ending in ("", OTHER_WORD)}

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self.pieces[token] for token in tokens)

    def ending(self, tokens: Sequence[int]) -> str:
        """The number, the name or the word that these tokens end with, which the next one may go on with; else ""."""
        start = len(tokens)
        while start and tokens[start - 1] in self._within:
            start -= 1
        if start == len(tokens):
            return self._endings[tokens[-1]] if tokens else ""
        return _ending(self.text(tokens[max(start - 1, 0) :]))

    def after(self, ending: str) -> "Digits":
        """What tokens with digits write after this ending."""
        return self._common.get(ending) or Digits(self, ending)

    def numbers(self, source: Sequence[int], part: range) -> set[str]:
        """The numbers of a part of a source and the names that have any; what is cut at its edge belongs to it too."""
        start, end = part.start, part.stop
        while start > 0 and source[start] in self._within:
            start -= 1
        while end < len(source) and source[end] in self._within:
            end += 1
        text = self.text(source[start:end])
        return {*_NUMBER.findall(text), *_NUMBER_OR_NAME.findall(text)}


class Digits:
    """The tokens with digits by what each of them makes of an ending."""

    def __init__(self, numerals: Numerals, ending: str) -> None:
        self._simple: dict[str, list[int]] = {}  # by the one number that they write, where that is all
        self._others: list[tuple[int, list[str], str]] = []
        for token in numerals.digits:
            before, last = _taken_apart(ending + numerals.pieces[token])
            if before or not last[-1:].isdigit():
                self._others.append((token, before, last))
            else:
                self._simple.setdefault(last, []).append(token)

    def possible(self, beginnings: Collection[str], is_possible: Callable[[Sequence[str], str], bool]) -> set[int]:
        """Those that write the beginning of a number of the source, or nothing but what is possible there."""
        begun = [token for number in beginnings for token in self._simple.get(number, ())]
        return {*begun, *(token for token, before, last in self._others if is_possible(before, last))}


@dataclass(frozen=True, slots=True)
class Next:
    """Columns of tokens that would write a wrong number, on the host; and the tokens that go on with a right one."""

    wrong: Tensor
    going_on: frozenset[int]


class SourceNumbers:
    """The numbers of one source, and what may follow upon what a summary ends with."""

    def __init__(self, numerals: Numerals, numbers: set[str], candidates: Candidates) -> None:
        self._numerals = numerals
        self._numbers = numbers
        self._candidates = candidates
        self._beginnings = {number[:end] for number in numbers for end in range(1, len(number) + 1)}
        self._known: dict[str, Next] = {}

    def after(self, tokens: Sequence[int]) -> Next:
        """What may be written after these tokens."""
        ending = self._numerals.ending(tokens)
        if ending.isalpha() and ending not in self._beginnings:
            ending = OTHER_WORD  # most words: what may follow is worked out once for all of them
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
            possible = numerals.after(ending).possible(self._beginnings, self._is_possible)
            wrong = self._candidates.columns(token for token in numerals.digits if token not in possible)
            return Next(torch.tensor(wrong, dtype=torch.long), going_on)
        right = [
            token for token in numerals.going_on if self._is_possible(*_taken_apart(ending + numerals.pieces[token]))
        ]
        others = torch.ones(len(self._candidates), dtype=torch.bool)
        others[self._candidates.columns(right)] = False
        return Next(others.nonzero().flatten(), going_on)

    def _is_possible(self, before: Sequence[str], last: str) -> bool:
        """Whether these numbers are the source's; the last one, which nothing follows, may lack its end."""
        if not all(number in self._numbers for number in before):
            return False
        return not last or last in self._beginnings or self._is_whole(last)

    def _is_whole(self, ending: str) -> bool:
        return not ending or ending.isalpha() or ending in self._numbers or ending.rstrip(".,") in self._numbers


def _ending(written: str) -> str:
    found = _ENDING.search(written)
    return found.group() if found else ""


def _taken_apart(written: str) -> tuple[list[str], str]:
    """The numbers and names in there that something follows, and the one at the end."""
    last = _UNFINISHED.search(written)
    return _NUMBER_OR_NAME.findall(written[: last.start()] if last else written), last.group() if last else ""

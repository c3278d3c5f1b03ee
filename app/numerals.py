"""Numbers are written as the source has them, or not at all.

A summary with a wrong number is worse than one without. So a search that is held to its source may only begin, go on
and end a number in such a way that the whole of it stands in the source: 15 is not in 15,000, nor 20 in 2022.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_UNFINISHED = re.compile(r"\d+(?:[.,]\d+)*[.,]?\Z")  # the next token may go on with it
_WITHIN = re.compile(r"[\d.,]+")


class Numerals:
    """What each token of a vocabulary writes, and which of them write digits.

    `pieces[token]` is the token's text with the space before it; "" for one that writes nothing by itself.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(piece or " " for piece in pieces)  # the end token ends a number too
        self.all = range(len(self.pieces))
        self.digits = tuple(token for token in self.all if _NUMBER.search(self.pieces[token]))
        self._within = frozenset(token for token in self.all if _WITHIN.fullmatch(self.pieces[token]))

    def last_number(self, tokens: Sequence[int]) -> str:
        """The number that these tokens end with, which the next one may go on with; "" when they end otherwise."""
        start = len(tokens)
        while start and tokens[start - 1] in self._within:
            start -= 1
        found = _UNFINISHED.search("".join(self.pieces[token] for token in tokens[max(start - 1, 0) :]))
        return found.group() if found else ""


class SourceNumbers:
    """The numbers of one source, and what may follow upon what a summary ends with."""

    def __init__(self, numerals: Numerals, source: Sequence[int]) -> None:
        self._numerals = numerals
        self._numbers = set(_NUMBER.findall("".join(numerals.pieces[token] for token in source)))
        self._beginnings = {number[:end] for number in self._numbers for end in range(1, len(number) + 1)}
        self._banned: dict[str, Tensor] = {}

    def must_go_on(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens end with a mere part of a number."""
        number = self._numerals.last_number(tokens)
        return bool(number) and not self._is_whole(number)

    def banned(self, tokens: Sequence[int]) -> Tensor:
        """Tokens that may not be written next: (any,) ids, on the host."""
        number = self._numerals.last_number(tokens)
        if number not in self._banned:
            self._banned[number] = torch.tensor(self._wrong_after(number), dtype=torch.long)
        return self._banned[number]

    def _wrong_after(self, number: str) -> list[int]:
        """Amid a number few tokens are right; elsewhere only those with digits can be wrong."""
        numerals = self._numerals
        some = numerals.digits if not number or self._is_whole(number) else numerals.all
        return [token for token in some if not self._is_possible(number + numerals.pieces[token])]

    def _is_possible(self, written: str) -> bool:
        """Whether every number in there is one of the source's; the last one may lack its end."""
        last = _UNFINISHED.search(written)
        before = written[: last.start()] if last else written
        if not all(number in self._numbers for number in _NUMBER.findall(before)):
            return False
        return not last or last.group() in self._beginnings or self._is_whole(last.group())

    def _is_whole(self, number: str) -> bool:
        return number in self._numbers or number.rstrip(".,") in self._numbers

"""What of a summary can be checked by looking it up: its numbers and names, and what they stand beside.

None of this proves a summary true (the right number may stand in the wrong sentence); what is not in the source at all
is almost always wrong. References are measured alike, since they tell how far the data themselves keep to the text: an
editor who has read the whole article writes names that its first sentences lack. Everything is compared without regard
to capitals, to typographic variants of an apostrophe and to the dots of U.S.

- **number**: a whole run of digits, with the points and commas between them: 2022, 1500 (also written 1,500), 3.5, and
  the 20 of 20%. It is in the source only as a whole: 20 is not in 2022. Digits of a name, as in G7, F-16 or COVID-19,
  are no number of the summary.
- **number and next word**: "200 flights" stands there as such; % is the same word as percent, and in Chinese the next
  character counts, which is mostly a unit.
- **name**: a word written with a capital in the summary, and written so more often than not by the data themselves
  where no sentence begins. Headlines in Title Case and first words are thereby judged by what they are, not by where
  they stand; a capitalised word that the data never write elsewhere counts as a name, since it may be one made up.
- **multi-word name**: names that follow each other, up to a possessive: "Dana Whitfield" in "Dana Whitfield's plan".
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

_NUMBER = r"\d+(?:[.,]\d+)*"
_HAN = "\u3400-\u9fff"
_LETTER, _LETTERS = rf"[^\W\d_{_HAN}]", rf"[^\W_{_HAN}]"
_TOKEN = re.compile(rf"{_NUMBER}|[{_HAN}%]|(?:{_LETTER}\.){{2,}}|{_LETTER}{_LETTERS}*(?:['&]{_LETTERS}+)*")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_ANY_NUMBER = re.compile(_NUMBER)
_VARIANTS = str.maketrans("’‘`´％", "''''%")
_BESIDE = re.compile(r"[\s-]*")  # between the words of one name
_WITHIN = re.compile(r"[\s,'-]*")  # between the words of one sentence
LONG_WORD = 4  # words of fewer letters are often written small in a title as well


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    count: int
    of: int

    def __add__(self, other: Self) -> "Share":
        return Share(self.count + other.count, self.of + other.of)

    @property
    def percent(self) -> float | None:
        return 100 * self.count / self.of if self.of else None


def share(hits: Iterable[bool]) -> Share:
    found = list(hits)
    return Share(sum(found), len(found))


@dataclass(frozen=True, slots=True)
class Word:
    """A word, number or percent sign of a text.

    beside: nothing but space or a hyphen stands before it. within: it does not begin a sentence.
    number: it is one, and no part of a name.
    """

    text: str
    beside: bool
    within: bool
    possessive: bool
    number: bool

    @property
    def key(self) -> str:
        return self.text.lower()

    @property
    def capital(self) -> bool:
        return self.text != self.key


def tokens(text: str) -> list[Word]:
    """Words in order; U.S. becomes US, Dana's becomes Dana, 1,500 becomes 1500, percent becomes %."""
    plain = re.sub(r"\bper ?cent\b", "%", text.translate(_VARIANTS), flags=re.IGNORECASE)
    found: list[Word] = []
    end = 0
    for match in _TOKEN.finditer(plain):
        gap, whole = plain[end : match.start()], match.group()
        bare = whole.removesuffix("'s").removesuffix("'S")
        end = match.end()
        found.append(
            Word(
                _canonical(bare),
                beside=bool(found and _BESIDE.fullmatch(gap)),
                within=bool(found and _WITHIN.fullmatch(gap)),
                possessive=bare != whole or plain[end : end + 1] == "'",
                number=whole[0].isdecimal() and not (found and gap == "-" and found[-1].capital),
            )
        )
    return found


def _canonical(word: str) -> str:
    if _GROUPED.fullmatch(word):
        return word.replace(",", "")
    return word if word[0].isdecimal() else word.replace(".", "")


class Casing:
    """Which words a body of texts writes with a capital where no sentence begins."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._capital: Counter[str] = Counter()
        self._small: Counter[str] = Counter()
        for text in texts:
            self._learn([word for word in tokens(text) if word.within])

    def _learn(self, words: Sequence[Word]) -> None:
        long = [word for word in words if len(word.text) >= LONG_WORD and word.text[0].isalpha()]
        if 2 * sum(word.capital for word in long) > len(long):
            return  # a title: its capitals say nothing
        for word in words:
            (self._capital if word.capital else self._small)[word.key] += 1

    def is_name(self, word: Word) -> bool:
        """A word with a capital that is usually written so, or was never seen; single letters and "I'm" are none."""
        if not word.capital or len(word.key.partition("'")[0]) < 2:
            return False
        capital, small = self._capital[word.key], self._small[word.key]
        return capital > small or capital == small == 0


@dataclass(frozen=True, slots=True)
class Truth:
    """Shares that are in the source; pairs and multi-word names contiguously."""

    numbers: Share
    number_pairs: Share
    names: Share
    multi_word_names: Share


def truth(texts: Sequence[str], summaries: Sequence[str], casing: Casing) -> Truth:
    """Over all summaries, pooled: a summary with many numbers weighs more."""
    rows = [_row(text, summary, casing) for text, summary in zip(texts, summaries, strict=True)]
    return Truth(*(sum((row[index] for row in rows), Share(0, 0)) for index in range(4)))


def _row(text: str, summary: str, casing: Casing) -> tuple[Share, Share, Share, Share]:
    source, written = [word.key for word in tokens(text)], tokens(summary)
    line, known = _line(source), {*source, *map(_canonical, _ANY_NUMBER.findall(text))}
    return (
        share(word.key in known for word in written if word.number),
        share(_line(pair) in line for pair in _number_pairs(written)),
        share(word.key in known for word in written if casing.is_name(word)),
        share(_line(run) in line for run in _runs(written, casing)),
    )


def _line(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


def _number_pairs(words: Sequence[Word]) -> Iterator[tuple[str, str]]:
    for first, second in itertools.pairwise(words):
        if first.number and (second.beside or second.text == "%"):
            yield first.key, second.key


def _runs(words: Sequence[Word], casing: Casing) -> Iterator[list[str]]:
    """Names of two words or more."""
    run: list[str] = []
    open_end = False
    for word in words:
        name = casing.is_name(word)
        if name and run and open_end and word.beside:
            run.append(word.key)
        else:
            if len(run) > 1:
                yield run
            run = [word.key] if name else []
        open_end = name and not word.possessive
    if len(run) > 1:
        yield run

"""Where a long text is cut into parts: at the ends of sentences if possible, into parts of nearly equal length."""

import math
import re

from app.alignment import group_words
from app.models.base import Tokens

# Parts are planned a little shorter than they may be, so that a cut can move to the end of a sentence.
FILL = 0.9
# How far from its ideal place, in parts of a part's length, a cut may move.
REACH = 0.25
# The last character searched is the first after the sentence. In Chinese no space stands before it.
_SENTENCE_END = re.compile(
    r"[.!?…][\"'”’»)\]]*\s+\S$|[\r\n]\s*\S$|(?:[。！？；]|……)[”’」』）】》]*\s*[^\s。！？；…”’」』）】》]$"
)
_OPENING = "“‘「『（【《〈([{"


def chunks(tokens: Tokens, limit: int, language: str) -> tuple[range, ...]:
    """Ranges of at most `limit` tokens that cover the text in order; one range when it fits.

    `language` is a BCP 47 tag that the word breaker may use.
    """
    count = len(tokens.ids)
    if count <= limit:
        return (range(count),)
    words = {group.start for group in group_words(tokens, language)}
    number = math.ceil(count / max(1, math.floor(limit * FILL)))
    ranges, start = [], 0
    for left in range(number, 0, -1):
        stop = _cut(tokens, words, start, left, limit)
        ranges.append(range(start, stop))
        start = stop
    return tuple(ranges)


def _cut(tokens: Tokens, words: set[int], start: int, left: int, limit: int) -> int:
    """Where the part that begins at `start` stops, when the rest is to become `left` parts."""
    rest = len(tokens.ids) - start
    if left == 1:
        return start + rest
    ideal = rest / left
    # What is left over must fit into the other parts, and give each of them a token.
    lowest = max(1, rest - (left - 1) * limit, math.floor(ideal * (1 - REACH)))
    highest = min(limit, rest - (left - 1), math.ceil(ideal * (1 + REACH)))
    sizes = range(lowest, highest + 1)
    return start + max(sizes, key=lambda size: (_quality(tokens, words, start + size), -abs(size - ideal), -size))


def _quality(tokens: Tokens, words: set[int], position: int) -> int:
    """How good it is to cut before this token.

    4 a sentence ends, 3 white space, 2 a word begins (`words` holds their first tokens), 1 a character, 0 within one.
    """
    text, last, after = tokens.text, tokens.spans[position - 1], tokens.spans[position].start
    before = last.end
    if after < before or last.start == last.end:  # a token of white space goes with the one after it
        return 0
    if _SENTENCE_END.search(text[max(0, before - 4) : after + 1]):
        return 4
    if any(character.isspace() for character in text[before:after]):
        return 3
    follows = text[after : after + 1]
    begins = position in words and (follows.isalnum() or follows in _OPENING)
    return 2 if begins and text[before - 1] not in _OPENING else 1

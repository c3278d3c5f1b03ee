"""Byte-level BPE with exact character offsets.

The `tokenizers` library only splits bytes into tokens. Offsets are computed here, by counting bytes, so that they are
exact by construction: every byte-level token is a known number of UTF-8 bytes, and every byte belongs to one
character of the caller's own string.

A word can be copied only if it has the same tokens wherever it stands. Where words are written apart, each is cut for
itself, with the space before it. Chinese is cut into its characters, signs and single spaces, and into its numbers and
Latin words: tokens longer than a character would depend on their neighbours.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Bpe

from app.models.base import Tokens
from app.models.tokens import BYTE_OF, Edges, LazySpans

PAD, START, END = 0, 1, 2
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
MOST_WORDS = 65_536  # whose tokens are remembered, about: 16 MB of real texts, some 40 of the worst
LONGEST_WORD = 32  # characters of a word that is remembered
MOST_TOKENS = 8  # of a word that is remembered: nearly all real words have fewer

_WORD = re.compile(r"\S+")
# Typographic variants of one sign, one character for one, so that offsets are untouched.
_SIGNS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\u00b4": "'", "\u2010": "-", "\u2011": "-"})
# Chinese keeps its quotation marks and wide punctuation; letters, digits and other signs of full width become ASCII.
_CHINESE_SIGNS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5E) if chr(code) not in "，！？：；（）"} | {
    ord(dot): ord("·") for dot in "•‧∙・"
}
_CHINESE_PIECE = Regex(r"\p{Han}|[^\p{L}\p{N}]")
# Coarser: most characters, which are pieces, and what is between them, which is several.
_CHINESE_WORD = re.compile(r"[\u4e00-\u9fff]|[^\u4e00-\u9fff]+")


def normalize(text: str, chinese: bool = False) -> str:
    """One space before every word (in Chinese, between two), and one form of every sign."""
    words = text.split()
    if chinese:
        return " ".join(words).translate(_CHINESE_SIGNS)
    return "".join(f" {word}" for word in words).translate(_SIGNS)


def origins(text: str, chinese: bool = False) -> NDArray[np.int64]:
    """Where each character of the normalized text was; the space before a word is where that begins."""
    starts = np.array([word.start() for word in _WORD.finditer(text)], dtype=np.int64)
    widths = np.array([*map(len, text.split())], dtype=np.int64) + 1  # the space belongs to the word after it
    begins = np.cumsum(widths) - widths
    place = np.arange(widths.sum()) - np.repeat(begins, widths)  # within the word, from its space on
    origin: NDArray[np.int64] = np.repeat(starts, widths) + np.maximum(place - 1, 0)
    return origin[1:] if chinese else origin


class Tokenizer:
    """Text to ids and spans, and back."""

    def __init__(self, bpe: Bpe) -> None:
        self._bpe = bpe
        self._chinese = isinstance(bpe.pre_tokenizer, pre_tokenizers.Sequence)  # so the file alone says how to cut
        vocabulary = bpe.get_vocab(with_added_tokens=False)
        self._bytes = [b""] * len(vocabulary)
        for token, index in vocabulary.items():
            if token not in SPECIAL_TOKENS:
                self._bytes[index] = bytes(BYTE_OF[character] for character in token)
        self._widths = np.array([len(data) for data in self._bytes], dtype=np.int64)
        self._known: dict[str, tuple[int, ...]] = {}  # the ids of words that have been read

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        return cls(Bpe.from_file(str(path)))

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int, language: str = "en") -> "Tokenizer":
        """Learn a vocabulary; the special tokens take the first ids and match nothing in a text.

        `language` is a BCP 47 tag; Chinese ("zh", "zh-Hans", …) is cut in its own way.
        """
        chinese = language.lower().split("-")[0] == "zh"
        bpe = untrained(chinese)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator((normalize(text, chinese) for text in texts), trainer)
        return cls(_forget_added_tokens(bpe))

    def save(self, path: Path) -> None:
        self._bpe.save(str(path), pretty=False)

    @property
    def vocabulary_size(self) -> int:
        return len(self._bytes)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text of every token; a sign stands for bytes that are no character by themselves."""
        return tuple(data.decode("utf-8", errors="replace") for data in self._bytes)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids alone, for whole corpora."""
        normalized = [normalize(text, self._chinese) for text in texts]
        return [encoding.ids for encoding in self._bpe.encode_batch_fast(normalized, add_special_tokens=False)]

    def encode(self, text: str) -> Tokens:
        """Ids of `text` with a span of it for each: `text[span.start:span.end]` is what the token covers.

        A character split over several tokens is the span of each of them; a token of white space has an empty span.
        """
        words = _CHINESE_WORD.findall(normalize(text, True)) if self._chinese else text.split()
        ids = tuple(self._ids_of_words(words))
        return Tokens(text, ids, LazySpans(len(ids), lambda: self._source_spans(text, ids)))

    def decode(self, ids: Sequence[int]) -> Tokens:
        """Text of `ids` without white space at its edges, and a span of it for each id.

        Bytes that form no character (a sequence cut short) are left out.
        """
        written = tuple(ids)
        data = b"".join(self._bytes[index] for index in written)
        text = data.decode("utf-8", errors="ignore").strip()
        return Tokens(text, written, LazySpans(len(written), lambda: self._summary_spans(text, written, data)))

    def _ids_of_words(self, words: Sequence[str]) -> Iterator[int]:
        """Each word is cut for itself, so that one which was cut before need not be cut again.

        Several threads do this: what is known is only ever added to, or forgotten by beginning anew.
        """
        known = self._known
        new = [word for word in dict.fromkeys(words) if word not in known]
        cut = dict(zip(new, self._cut(new), strict=True)) if new else {}
        if len(known) >= MOST_WORDS:
            self._known = {}
        self._known.update((word, ids) for word, ids in cut.items() if _worth_knowing(word, ids))
        return chain.from_iterable(known.get(word) or cut[word] for word in words)

    def _cut(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each. In Chinese the space before it is a token of its own, and left out."""
        pieces = [f" {word}" if self._chinese else normalize(word) for word in words]
        ids = self._bpe.encode_batch_fast(["".join(pieces)], add_special_tokens=False)[0].ids
        ends = np.cumsum([len(piece.encode()) for piece in pieces])  # in bytes
        counts = np.searchsorted(np.cumsum(self._widths[ids]), ends) + 1  # of the ids up to there
        return [tuple(ids[start + self._chinese : end]) for start, end in pairwise([0, *counts.tolist()])]

    def _source_spans(self, text: str, ids: Sequence[int]) -> Edges:
        data = np.frombuffer(normalize(text, self._chinese).encode(), dtype=np.uint8)
        origin = origins(text, self._chinese)
        character_of = np.cumsum((data & 0xC0) != 0x80) - 1  # one entry for each byte: those of 10xxxxxx go on
        widths = self._widths[list(ids)]
        last_bytes = np.cumsum(widths) - 1
        first_bytes = last_bytes - widths + 1
        first, last = character_of[first_bytes], character_of[last_bytes]
        first += data[first_bytes] == ord(" ")
        starts = origin[first]
        ends = np.where(last >= first, origin[last] + 1, starts)
        return starts.tolist(), ends.tolist()

    def _summary_spans(self, text: str, ids: Sequence[int], data: bytes) -> Edges:
        # A lone surrogate stands for each byte that is not part of a character.
        escaped = data.decode("utf-8", errors="surrogateescape")
        kept: list[str] = []
        position_of: list[int] = []  # for each byte: the number of characters kept before it
        goes_on: list[bool] = []  # whether it goes on with a character that is kept
        for character in escaped:
            lost = "\udc80" <= character <= "\udcff"
            width = 1 if lost else len(character.encode())
            position_of.extend([len(kept)] * width)
            goes_on.extend([False] + [True] * (width - 1))
            if not lost:
                kept.append(character)
        position_of.append(len(kept))
        goes_on.append(False)
        raw = "".join(kept)
        offset = len(raw) - len(raw.lstrip())
        ranges = self._ranges(ids, position_of, goes_on)
        spans = [_trim(text, start - offset, end - offset) for start, end in ranges]
        return [start for start, _ in spans], [end for _, end in spans]

    def _ranges(
        self, ids: Sequence[int], position_of: Sequence[int], goes_on: Sequence[bool]
    ) -> Iterator[tuple[int, int]]:
        """Character range of each id, before the edges are stripped."""
        byte = 0
        for index in ids:
            first, byte = byte, byte + len(self._bytes[index])
            # The range ends with the character that the last byte belongs to, even when it goes on in the next token.
            yield position_of[first], position_of[byte] + goes_on[byte]


def _worth_knowing(word: str, ids: tuple[int, ...]) -> bool:
    return len(word) <= LONGEST_WORD and len(ids) <= MOST_TOKENS


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The range within `text`, without white space at its edges."""
    start, end = max(start, 0), min(end, len(text))
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return min(start, len(text)), max(end, min(start, len(text)))


def untrained(chinese: bool = False) -> Bpe:
    """Byte-level BPE that has not learned anything yet."""
    bpe = Bpe(models.BPE())
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters = pre_tokenizers.Split(_CHINESE_PIECE, "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([characters, pieces]) if chinese else pieces
    bpe.decoder = decoders.ByteLevel()
    return bpe


def _forget_added_tokens(bpe: Bpe) -> Bpe:
    """Special tokens keep their ids, but the literal text "</s>" in an article is no longer taken for one."""
    import json

    state = json.loads(bpe.to_str())
    state["added_tokens"] = []
    return Bpe.from_str(json.dumps(state))

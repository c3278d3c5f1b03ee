"""Text to the ids of a Hugging Face checkpoint, with exact character offsets, and back.

Two libraries cut texts: `tokenizers` as a `tokenizer.json` says, and `sentencepiece`. What they say of offsets is
brought into one form here, and texts are put together here, from the bytes of each token, so that every token has its
place and a summary grows at its end only.
"""

import codecs
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor
from tokenizers import Encoding, Tokenizer

from app.models.base import Tokens
from app.models.tokens import Edges, LazySpans

Around = tuple[tuple[int, ...], tuple[int, ...]]  # ids before a content, and after it
Places = NDArray[np.int64]

_BLANK = re.compile(r"\s")
# Of what the library tidies, that which waits for no later token: what has been told of a summary stays as it is.
_UNTIDY = re.compile(" (?=[.?!,])")


class Segmenter(Protocol):
    """Cuts a text into tokens, none of them special. Thread-safe."""

    def ids(self, text: str) -> list[int]: ...

    def offsets(self, text: str) -> Places:
        """(tokens, 2): where each of them begins and ends in the text, in characters; white space may be counted in."""


class JsonSegmenter:
    """A `tokenizer.json`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def offsets(self, text: str) -> Places:
        """Where there are signs that normalization makes nothing of, of the rest: the library miscounts them."""
        encoding = self._encode(text)
        nothing = self._nothing(text)
        if nothing:
            shorter = self._encode("".join(sign for sign in text if sign not in nothing))
            if shorter.ids == encoding.ids:  # else what stood around one of them has become one sign
                kept = np.array([place for place, sign in enumerate(text) if sign not in nothing], dtype=np.int64)
                starts, ends = _pairs(shorter.offsets).T
                return np.stack([np.append(kept, len(text))[starts], np.append(0, kept + 1)[ends]], axis=1)
        return _pairs(encoding.offsets)

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _nothing(self, text: str) -> set[str]:
        normalizer = self._tokenizer.normalizer
        return {sign for sign in set(text) if normalizer is not None and not normalizer.normalize_str(sign)}


class PieceSegmenter:
    """A SentencePiece model whose pieces have ids that are not its own."""

    def __init__(self, model: SentencePieceProcessor, ids: Mapping[str, int], unknown: int) -> None:
        self._model, self._ids, self._unknown = model, ids, unknown

    def ids(self, text: str) -> list[int]:
        return [self._ids.get(piece, self._unknown) for piece in self._model.encode(text, return_type=str)]

    def offsets(self, text: str) -> Places:
        """From where each normalized character was; several may have been one, which the library gives to the last."""
        lengths = np.array([len(piece) for piece in self._model.encode(text, return_type=str)], dtype=np.int64)
        origins = np.array(self._model.normalize(text, with_offsets=True)[1], dtype=np.int64)  # and one for the end
        ends = np.cumsum(lengths)
        following = np.searchsorted(origins, origins[ends - 1], side="right")
        return np.stack([origins[ends - lengths], origins[np.minimum(following, len(origins) - 1)]], axis=1)


class SourceTokenizer:
    """Text to ids and spans, and back.

    written: the bytes that each token of the vocabulary writes, with the space before it; none for special ones.
    around: what the encoder wants before and after a content. It is no part of any `Tokens`.
    lead: what is read before the first character of a source, as if it were there: the space after a prefix.
    tidy: whether the space before a sign of punctuation is left out of a summary.
    """

    def __init__(
        self,
        source: Segmenter,
        target: Segmenter,
        written: Sequence[bytes],
        around: Around,
        lead: str = "",
        tidy: bool = False,
    ) -> None:
        self._source, self._target, self._written = source, target, written
        self.around = around
        self._lead = lead
        self._tidy = tidy

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text of every token with the space before it; "" for special ones."""
        return tuple(data.decode("utf-8", errors="replace") for data in self._written)

    def encode(self, text: str) -> Tokens:
        """The whole text as the encoder reads it; nothing is cut, and nothing in it is taken for a special token."""
        return _tokens(self._source, text, self._lead)

    def encode_summary(self, text: str) -> Tokens:
        """A text as the decoder writes it."""
        return _tokens(self._target, text, "")

    def decode(self, ids: Sequence[int]) -> Tokens:
        """Text of `ids` without white space at its edges, and a span of it for each id.

        Bytes that are no character become the sign for that, those at the end, which may still become one, are left
        out. The text of the first of some ids is the beginning of the text of all.
        """
        written = tuple(ids)
        raw = codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(self._written[i] for i in written))
        text = (_UNTIDY.sub("", raw) if self._tidy else raw).strip()
        return Tokens(text, written, LazySpans(len(written), lambda: self._summary_edges(text, written, raw)))

    def _summary_edges(self, text: str, ids: Sequence[int], raw: str) -> Edges:
        """`raw` is the text before anything was left out of it."""
        left_out = [found.start() for found in _UNTIDY.finditer(raw)] if self._tidy else []
        offset = len(raw) - len(raw.lstrip())
        offset -= bisect_left(left_out, offset)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        starts, ends, place = [], [], 0
        for index in ids:
            data = self._written[index]
            # What waits for the rest of its character waits in vain where another one begins.
            start = place + bool(decoder.getstate()[0] and data and data[0] & 0xC0 != 0x80)
            starts.append(start - bisect_left(left_out, start) - offset)
            place += len(decoder.decode(data))
            # The span ends with the character that the last byte belongs to, even when it goes on in the next token.
            end = place + bool(decoder.getstate()[0])
            ends.append(end - bisect_left(left_out, end) - offset)
        return _trimmed(text, _within(text, starts), _within(text, ends))


def _tokens(segmenter: Segmenter, text: str, lead: str) -> Tokens:
    ids = tuple(segmenter.ids(lead + text))
    return Tokens(text, ids, LazySpans(len(ids), lambda: _source_edges(segmenter, text, lead)))


def _source_edges(segmenter: Segmenter, text: str, lead: str) -> Edges:
    """What no token covers goes with the one before it: an accent that became part of its letter, a sign dropped."""
    starts, ends = _within(text, segmenter.offsets(lead + text) - len(lead)).T
    limits = np.append(starts, len(text))[np.searchsorted(starts, ends)]
    return _trimmed(text, starts, np.minimum(limits, _next(_blank(text))[ends]))


def _pairs(offsets: Sequence[tuple[int, int]]) -> Places:
    return np.array(offsets, dtype=np.int64).reshape(-1, 2)


def _within(text: str, places: Sequence[int] | Places) -> Places:
    return np.clip(np.asarray(places, dtype=np.int64), 0, len(text))


def _blank(text: str) -> NDArray[np.bool_]:
    """For each character whether it is white space, and one more for the end."""
    blank = np.zeros(len(text) + 1, dtype=np.bool_)
    blank[[found.start() for found in _BLANK.finditer(text)]] = True
    return blank


def _next(wanted: NDArray[np.bool_]) -> Places:
    """For each place the first from there on that is wanted; the last one where none is."""
    last = len(wanted) - 1
    places = np.where(wanted, np.arange(last + 1), last)
    found: Places = np.minimum.accumulate(places[::-1])[::-1]
    return found


def _trimmed(text: str, starts: Places, ends: Places) -> Edges:
    """The ranges without white space at their edges; of nothing else, an empty one is left where text goes on."""
    solid = ~_blank(text)
    starts = _next(solid)[starts]
    ends_before = np.maximum.accumulate(np.where(solid, np.arange(1, len(solid) + 1), 0))
    ends = np.maximum(starts, np.where(ends > 0, ends_before[ends - 1], 0))
    return starts.tolist(), ends.tolist()

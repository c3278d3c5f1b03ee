"""What the models of this family have in common: a tokenizer, and sources that are encoded one at a time."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch

from app.models.base import Memory, Seq2SeqModel, Shared, Tokens


class Tokenizer(Protocol):
    """Text to ids, and back: as `Seq2SeqModel`."""

    def encode(self, text: str) -> Tokens: ...

    def encode_summary(self, text: str) -> Tokens: ...

    def decode(self, ids: Sequence[int]) -> Tokens: ...

    @property
    def pieces(self) -> Sequence[str]: ...

    @property
    def around(self) -> tuple[Sequence[int], Sequence[int]]:
        """The ids that the encoder wants before and after a content."""


class LibraryModel(Seq2SeqModel):
    """A network of the library. Every row can write every token."""

    encodes_one_by_one = True

    def __init__(self, tokenizer: Tokenizer, vocabulary_size: int) -> None:
        self._tokenizer, self._shared = tokenizer, Shared(range(vocabulary_size))

    def tokenize(self, text: str) -> Tokens:
        return self._tokenizer.encode(text)

    def tokenize_summary(self, text: str) -> Tokens:
        return self._tokenizer.encode_summary(text)

    def detokenize(self, ids: Sequence[int]) -> Tokens:
        return self._tokenizer.decode(ids)

    @property
    def pieces(self) -> Sequence[str]:
        return self._tokenizer.pieces

    @property
    def shared(self) -> Shared:
        return self._shared

    @torch.inference_mode()
    def encode(self, sources: Sequence[Sequence[int]], given: Sequence[Sequence[int]] = ()) -> list[Memory]:  # noqa: ARG002  # every token can be written
        before, after = self._tokenizer.around
        return [self._encode(before, source, after) for source in sources]

    @abstractmethod
    def _encode(self, before: Sequence[int], source: Sequence[int], after: Sequence[int]) -> Memory:
        """One source, with what stands around it."""

    def positions(self, lengths: Sequence[int]) -> int:
        return sum(lengths) + len(lengths) * sum(map(len, self._tokenizer.around))

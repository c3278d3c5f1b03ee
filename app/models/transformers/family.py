"""The family at the seam: the library's encoder, our decoder, and the tokenizer of the checkpoint."""

from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import PreTrainedModel

from app.models.base import Candidates, DecoderState, Memory, ModelInfo, Seq2SeqModel, Shared, Tokens
from app.models.transformers.architectures import read_decoder
from app.models.transformers.decoder import Step
from app.models.transformers.encoding import Encoder
from app.models.transformers.state import TransformersState


class Tokenizer(Protocol):
    """What a checkpoint's tokenizer does."""

    def encode(self, text: str) -> Tokens:
        """A source text: content only, no special tokens."""

    def encode_summary(self, text: str) -> Tokens: ...

    def decode(self, ids: Sequence[int]) -> Tokens: ...

    @property
    def pieces(self) -> Sequence[str]: ...

    def with_special(self, ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """The ids that the encoder wants before and after these."""


class TransformersModel(Seq2SeqModel):
    """A checkpoint of one of `ARCHITECTURES`, on its device."""

    def __init__(self, network: PreTrainedModel, tokenizer: Tokenizer, info: ModelInfo) -> None:
        """network: of the type that is computed in; of its decoder only the weights are kept."""
        # before its first token a row writes a start, and where one is forced a second
        decoder = read_decoder(network, info.limits.max_summary_tokens + 2)
        self.info, self._tokenizer = info, tokenizer
        self._shared = Shared(range(len(decoder.output.weight)))
        self._encoder, self._step = Encoder(network.get_encoder(), decoder), Step(decoder)

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
        return [self._encode(source) for source in sources]

    def _encode(self, source: Sequence[int]) -> Memory:
        before, after = self._tokenizer.with_special(source)
        return self._encoder(before, source, after, Candidates(self._shared))

    def positions(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def open(self, capacity: int) -> DecoderState:
        return TransformersState(self._step, capacity)

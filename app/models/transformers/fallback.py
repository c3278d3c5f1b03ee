"""Any other encoder-decoder of the library at the seam: its own forward pass steps the rows of one source at a time.

`generate` does the same to a network: an encoder pass, then a forward pass for every token, over a cache whose rows
follow the hypotheses. What `generate` does around that, `app/search.py` does here, as for every family: so callers join,
leave and are told tokens between two steps, and the attention of a step is reduced before the next one is computed.

Rows of different sources never share a pass. The library's kernels change with the number of rows, and its padding
with the longest source: so company would change results. It costs each of them the whole time of the others instead.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.utils import ModelOutput
from typing_extensions import override

from app.errors import CheckpointError
from app.models.base import (
    AttentionInfo,
    AttentionOptions,
    Candidates,
    DecoderState,
    Memory,
    ModelInfo,
    Seq2SeqModel,
    Shared,
    StepOutput,
    Tokens,
)

# Not of a configuration's number of layers: ProphetNet's is that of its encoder.
def open_cache() -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


# Queries of a cross-attention for one token that is given: the first writes the next one, except in ProphetNet, where it
# reads the token, and those after it write the next one, the one after that, and so on.
READING, WRITING = 0, 1


class SourceTokenizer(Protocol):
    """What it takes to read texts and to write summaries."""

    @property
    def pieces(self) -> Sequence[str]: ...

    def encode(self, text: str) -> Tokens: ...

    def encode_summary(self, text: str) -> Tokens: ...

    def decode(self, ids: Sequence[int]) -> Tokens: ...

    def with_special(self, ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """What the encoder wants before and after these."""


@dataclass(frozen=True, slots=True)
class FallbackMemory(Memory):
    """encoded: its `last_hidden_state` (1, positions, size), where those in `content` are the caller's tokens."""

    encoded: ModelOutput
    content: slice
    candidates: Candidates

    @property
    def source_tokens(self) -> int:
        return self.content.stop - self.content.start  # type: ignore[no-any-return]  # of two numbers


@dataclass(frozen=True, slots=True)
class Forward:
    """One pass of a network's decoder for R rows of one source.

    logits: (R, vocabulary). attentions: for each layer (R, heads, queries, positions); none unless they were asked for.
    """

    logits: Tensor
    attentions: Sequence[Tensor]


class Network:
    """The library's network, the same whatever its architecture."""

    def __init__(self, model: PreTrainedModel) -> None:
        # The other kernels do not tell their weights; and whether somebody asks must not change a summary.
        if model.config._attn_implementation != "eager":
            model.set_attn_implementation("eager")
        self._model = model.eval().requires_grad_(False)
        self._encoder = model.get_encoder()
        self._looks_globally = "global_attention_mask" in inspect.signature(self._encoder.forward).parameters

    @property
    def device(self) -> torch.device:
        return self._model.device

    def encode(self, ids: Sequence[int]) -> ModelOutput:
        """One source, without padding."""
        tokens = torch.tensor([ids], device=self.device)
        inputs: dict[str, Any] = {"attention_mask": torch.ones_like(tokens)}
        if self._looks_globally:  # as the checkpoints of LED that summarize were trained: from the first position
            inputs["global_attention_mask"] = torch.zeros_like(tokens).index_fill_(1, tokens.new_zeros(1), 1)
        encoded: ModelOutput = self._encoder(input_ids=tokens, return_dict=True, **inputs)
        return encoded

    def decode(self, tokens: Sequence[int], encoded: ModelOutput, cache: EncoderDecoderCache, attend: bool) -> Forward:
        """The token that each row wrote last, over what the cache holds of those before it, which grows by one."""
        hidden = encoded.last_hidden_state.expand(len(tokens), -1, -1)
        output = self._model(
            encoder_outputs=type(encoded)(last_hidden_state=hidden),
            attention_mask=torch.ones(hidden.shape[:2], dtype=torch.long, device=self.device),
            decoder_input_ids=torch.tensor(tokens, device=self.device)[:, None],
            cache=cache,
            use_cache=True,
            output_attentions=attend,
            return_dict=True,
        )
        return Forward(output.logits[:, -1], (output.cross_attentions or ()) if attend else ())


@dataclass(slots=True)
class _Text:
    """A source that is decoded. rows: of its cache; places: which of them each slot continues from."""

    memory: FallbackMemory
    attention: AttentionOptions | None
    cache: EncoderDecoderCache
    places: dict[int, int]
    rows: int = 0

    def select(self, slots: Sequence[int], device: torch.device) -> None:
        """Make the rows of the cache those of these slots."""
        wanted = [self.places[slot] for slot in slots]
        if self.rows and wanted != list(range(self.rows)):
            index = torch.tensor(wanted, device=device)
            self.cache.self_attention_cache.reorder_cache(index)
            if len(wanted) != self.rows:  # all rows ask the same source
                self.cache.cross_attention_cache.reorder_cache(index)
        self.rows = len(wanted)
        self.places.update((slot, place) for place, slot in enumerate(slots))


class FallbackState(DecoderState):
    """Slots of sources that are stepped one after the other."""

    def __init__(self, network: Network, vocabulary: int) -> None:
        self._network, self._vocabulary = network, vocabulary
        self._texts: dict[int, _Text] = {}  # by slot

    @override
    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, FallbackMemory)
        text = _Text(memory, attention, open_cache(), dict.fromkeys(rows, 0))
        self._texts.update(dict.fromkeys(rows, text))

    @override
    @torch.inference_mode()
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        numbers: dict[int, list[int]] = {}  # of the rows of each text
        for number, row in enumerate(rows):
            numbers.setdefault(id(self._texts[row]), []).append(number)
        widest = max(self._texts[row].memory.source_tokens for row in rows)
        log_probabilities = torch.empty(len(rows), self._vocabulary, device=self._network.device)
        attention = torch.zeros(len(rows), widest, device=self._network.device)
        for own in numbers.values():
            text = self._texts[rows[own[0]]]
            text.select([rows[number] for number in own], self._network.device)
            written = [tokens[number] for number in own]
            forward = self._network.decode(written, text.memory.encoded, text.cache, text.attention is not None)
            log_probabilities[own] = forward.logits.log_softmax(-1, dtype=_precise(forward.logits)).float()
            if text.attention:
                attention[own, : text.memory.source_tokens] = reduced(forward, text.attention)[:, text.memory.content]
        return StepOutput(log_probabilities, attention, None)

    @override
    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        held = [self._texts[parent].places[parent] for parent in parents]
        for row, place in zip(rows, held, strict=True):
            self._texts[row].places[row] = place

    @override
    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._texts[row]


def reduced(forward: Forward, options: AttentionOptions) -> Tensor:
    """(rows, positions) float32: the chosen attentions of the query that writes, as one. Each row sums to 1."""
    assert options.layers and options.heads
    query = min(WRITING, forward.attentions[0].shape[2] - 1)
    chosen = torch.stack([forward.attentions[layer][:, list(options.heads), query] for layer in options.layers])
    if options.reduce == "mean":
        return chosen.mean((0, 2)).float()
    largest = chosen.amax((0, 2)).float()
    return largest / largest.sum(-1, keepdim=True)


class FallbackModel(Seq2SeqModel):
    """A checkpoint of an architecture that has no step of our own."""

    def __init__(self, network: PreTrainedModel, tokenizer: SourceTokenizer, info: ModelInfo) -> None:
        """network: on its device, in its precision.

        Raises CheckpointError where its decoder does not tell what it attends to.
        """
        self._network, self._tokenizer = Network(network), tokenizer
        tried = self._tried(info)
        layers, heads = len(tried.attentions), tried.attentions[0].shape[1]
        self.info = replace(info, decoding="unbatched", attention=AttentionInfo.of_transformer(layers, heads))
        self._shared = Shared(range(tried.logits.shape[-1]))

    def tokenize(self, text: str) -> Tokens:
        return self._tokenizer.encode(text)

    def tokenize_summary(self, text: str) -> Tokens:
        return self._tokenizer.encode_summary(text)

    def detokenize(self, ids: Sequence[int]) -> Tokens:
        return self._tokenizer.decode(ids)

    @property
    def calm_rows(self) -> float:
        return 1.0

    @property
    def pieces(self) -> Sequence[str]:
        return self._tokenizer.pieces

    @property
    def shared(self) -> Shared:
        return self._shared

    @torch.inference_mode()
    def encode(self, sources: Sequence[Sequence[int]], given: Sequence[Sequence[int]] = ()) -> list[Memory]:
        """One after the other; every token may be given."""
        return [self._encoded(source) for source in sources]

    def positions(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def open(self, capacity: int) -> FallbackState:
        return FallbackState(self._network, len(self._shared.tokens))

    def _encoded(self, source: Sequence[int]) -> FallbackMemory:
        before, after = self._tokenizer.with_special(source)
        content = slice(len(before), len(before) + len(source))
        return FallbackMemory(self._network.encode([*before, *source, *after]), content, Candidates(self._shared))

    @torch.inference_mode()
    def _tried(self, info: ModelInfo) -> Forward:
        """A first step: how many layers and heads there are, architectures name differently."""
        encoded = self._network.encode([info.special.end])
        forward = self._network.decode([info.special.start], encoded, open_cache(), attend=True)
        if not forward.attentions:
            raise CheckpointError(f"{info.name}: its decoder does not tell which source positions it attends to")
        return forward


def _precise(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)

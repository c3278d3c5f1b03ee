"""Any other encoder-decoder of the library at the seam: its own forward pass steps the rows of one source at a time.

`generate` asks the same of a network: an encoder pass, then a forward pass for every token, over a cache whose rows
follow the hypotheses. What it does around that, the engine does here as for every family: so texts join and leave
between two steps, tokens are told as they are written, and of a step's attention no more is kept than was asked for.

Rows of different sources never share a pass: the library pads them, and its kernels change with the number of rows, so
that company would change a result. A step of several texts takes as long as that of each, one after the other, instead.
"""

import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from typing_extensions import override

from app.errors import CheckpointError
from app.models.base import (
    AttentionInfo,
    AttentionOptions,
    Candidates,
    DecoderState,
    Memory,
    ModelInfo,
    StepOutput,
)
from app.models.transformers.decoder import merged, wide
from app.models.transformers.model import LibraryModel, Tokenizer

Encoded: TypeAlias = Any  # of a class of the architecture's own, with a `last_hidden_state` (1, positions, size)


@dataclass(frozen=True, slots=True)
class FallbackMemory(Memory):
    """content: the positions of the caller's tokens."""

    encoded: Encoded
    content: slice
    source_tokens: int
    candidates: Candidates


@dataclass(frozen=True, slots=True)
class Forward:
    """One pass of a decoder over rows of one source.

    logits: (rows, vocabulary). attentions: (rows, heads, positions) of each layer, or none where nobody asked.
    """

    logits: Tensor
    attentions: Sequence[Tensor]


class Network:
    """A network of the library, whatever its architecture."""

    def __init__(self, model: PreTrainedModel) -> None:
        # Other kernels do not tell their weights, and a summary must not depend on who asks for them.
        if model.config._attn_implementation != "eager":
            model.set_attn_implementation("eager")
        self._model = model
        self._encoder = model.get_encoder()
        self._looks_globally = "global_attention_mask" in inspect.signature(self._encoder.forward).parameters
        self._turns = hasattr(self._encoder, "set_attention_type")
        self._turning = threading.Lock()
        self._foretells = model.config.model_type == "prophetnet"

    @property
    def device(self) -> torch.device:
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        return self._model.dtype

    def encode(self, ids: Sequence[int]) -> Encoded:
        """One source, without padding."""
        inputs = {"input_ids": torch.tensor([ids], device=self.device)}
        if self._looks_globally:  # from the first position, as the checkpoints of LED that summarize were trained
            inputs["global_attention_mask"] = torch.zeros_like(inputs["input_ids"])
            inputs["global_attention_mask"][0, 0] = 1
        with self._as_loaded():
            return self._encoder(**inputs, return_dict=True)

    @contextmanager
    def _as_loaded(self) -> Iterator[None]:
        """BigBird's encoder turns from sparse to full attention at a short text, and never back."""
        if not self._turns:
            yield
            return
        with self._turning:
            self._encoder.set_attention_type(self._encoder.config.attention_type)
            yield

    def decode(self, tokens: Sequence[int], encoded: Encoded, cache: EncoderDecoderCache, attend: bool) -> Forward:
        """The token that each row wrote last, upon those that the cache knows of; then it knows of this one, too."""
        output = self._model(
            encoder_outputs=type(encoded)(last_hidden_state=encoded.last_hidden_state.expand(len(tokens), -1, -1)),
            decoder_input_ids=torch.tensor(tokens, device=self.device)[:, None],
            cache=cache,
            use_cache=True,
            output_attentions=attend,
            return_dict=True,
        )
        attentions = output.cross_attentions if attend else None
        return Forward(output.logits[:, -1], [self._of_the_next(layer) for layer in attentions or ()])

    def _of_the_next(self, attention: Tensor) -> Tensor:
        """(rows, heads, queries, positions) -> (rows, heads, positions), of the query that writes the next token."""
        if not self._foretells:
            return attention[:, :, 0]
        # ProphetNet tells scores, and has several queries: one for the token itself, then one for each that follows.
        return attention[:, :, 1].softmax(-1)


@dataclass(slots=True)
class _Text:
    """A source that is decoded. places: the row of the cache that each slot continues from."""

    memory: FallbackMemory
    attention: AttentionOptions | None
    cache: EncoderDecoderCache
    places: dict[int, int]
    rows: int = 0  # of the cache

    def arrange(self, slots: Sequence[int], device: torch.device) -> None:
        """Make the rows of the cache those of these slots, in this order."""
        wanted = [self.places[slot] for slot in slots]
        if self.rows and wanted != list(range(self.rows)):
            index: Any = torch.tensor(wanted, device=device)
            self.cache.self_attention_cache.reorder_cache(index)
            if len(wanted) != self.rows:  # which are all alike: they ask the same source
                self.cache.cross_attention_cache.reorder_cache(index)
        self.rows = len(slots)
        self.places.update((slot, place) for place, slot in enumerate(slots))


class FallbackState(DecoderState):
    """Slots whose sources are stepped one after the other."""

    def __init__(self, network: Network, vocabulary: int) -> None:
        self._network, self._vocabulary = network, vocabulary
        self._texts: dict[int, _Text] = {}  # by slot

    @override
    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, FallbackMemory)
        text = _Text(memory, attention, _empty_cache(), dict.fromkeys(rows, 0))
        self._texts.update(dict.fromkeys(rows, text))

    @override
    @torch.inference_mode()
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        width = max(self._texts[row].memory.source_tokens for row in rows)
        log_probabilities, attention = (self._zeros(len(rows), columns) for columns in (self._vocabulary, width))
        normalizers = self._zeros(len(rows))
        for text, own in self._by_text(rows):
            text.arrange([rows[number] for number in own], self._network.device)
            written = [tokens[number] for number in own]
            forward = self._network.decode(written, text.memory.encoded, text.cache, text.attention is not None)
            logits = forward.logits.to(attention.dtype)
            log_probabilities[own], normalizers[own] = logits.log_softmax(1), logits.logsumexp(1)
            if text.attention:
                content = reduced(forward.attentions, text.attention)[:, text.memory.content]
                attention[own, : text.memory.source_tokens] = content
        return StepOutput(log_probabilities, attention, None, normalizers)

    @override
    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        places = [self._texts[parent].places[parent] for parent in parents]
        for row, place in zip(rows, places, strict=True):
            self._texts[row].places[row] = place

    @override
    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._texts[row]

    def _zeros(self, *sizes: int) -> Tensor:
        return torch.zeros(sizes, dtype=wide(self._network.dtype), device=self._network.device)

    def _by_text(self, rows: Sequence[int]) -> list[tuple[_Text, list[int]]]:
        """The texts of these rows, each with the places where its own stand among them."""
        texts: dict[int, tuple[_Text, list[int]]] = {}
        for number, row in enumerate(rows):
            text = self._texts[row]
            texts.setdefault(id(text), (text, []))[1].append(number)
        return list(texts.values())


def reduced(attentions: Sequence[Tensor], options: AttentionOptions) -> Tensor:
    """(rows, positions): the chosen heads, (rows, heads, positions) in each layer, as one distribution."""
    assert options.layers
    assert options.heads
    chosen = torch.cat([attentions[layer][:, list(options.heads)] for layer in options.layers], 1)
    return merged(chosen.to(wide(chosen.dtype)), options.reduce, 1)


class FallbackModel(LibraryModel):
    """A checkpoint of an architecture that has no step of our own."""

    def __init__(self, network: PreTrainedModel, tokenizer: Tokenizer, info: ModelInfo) -> None:
        """network: on its device, of the type that is computed in.

        Raises CheckpointError where its decoder does not tell which positions of the source it attends to.
        """
        self._network = Network(network)
        first = self._first_step(info)
        attention = AttentionInfo.of_transformer(len(first.attentions), first.attentions[0].shape[1])
        self.info = replace(info, attention=attention, decoding="unbatched")
        super().__init__(tokenizer, first.logits.shape[1])

    @property
    def calm_rows(self) -> float:
        return 1.0

    def open(self, capacity: int) -> FallbackState:  # noqa: ARG002  # a cache has as many rows as are stepped
        return FallbackState(self._network, len(self._shared.tokens))

    @override
    def _encode(self, before: Sequence[int], source: Sequence[int], after: Sequence[int]) -> FallbackMemory:
        content = slice(len(before), len(before) + len(source))
        encoded = self._network.encode([*before, *source, *after])
        return FallbackMemory(encoded, content, len(source), Candidates(self._shared))

    @torch.inference_mode()
    def _first_step(self, info: ModelInfo) -> Forward:
        """Of a source of one position: it shows the sizes that every architecture calls by another name."""
        encoded = self._network.encode([info.special.end])
        first = self._network.decode([info.special.start], encoded, _empty_cache(), attend=True)
        if not first.attentions or any((layer != 1).any() for layer in first.attentions):
            raise CheckpointError(f"{info.name}: its decoder does not tell which tokens of the source it attends to")
        return first


def _empty_cache() -> EncoderDecoderCache:
    """With as many layers as come: what some configurations say is the number of the encoder's."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())

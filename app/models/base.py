"""The seam: what a model family provides, one decoder step at a time.

Search, scheduling and alignment are written once, above this file, for every family. A family knows nothing of
requests, queues or HTTP; the engine knows nothing of a family but these classes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of Unicode code points in a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model sees it: one id and one span (no white space at its edges) for each token.

    `text` is the caller's own string for a source; for a summary it is the detokenized text.
    Special tokens (start, end, padding) are never among them.
    """

    text: str
    ids: tuple[int, ...]
    spans: Sequence[Span]

    def head(self, count: int) -> "Tokens":
        """The first `count` tokens of the same text."""
        return Tokens(self.text, self.ids[:count], self.spans[:count])


EarlyStopping: TypeAlias = bool | Literal["never"]


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How one request's summary is searched for; names are those of Hugging Face `generate`.

    `max_length` counts summary tokens, the end token not included. `numbers_from_source`, which that library has not,
    writes no number in digits, and no name with digits (Q1), but those of the source.
    """

    num_beams: int = 4
    max_length: int = 32
    min_length: int = 0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    numbers_from_source: bool = True
    repetition_penalty: float = 1.0
    early_stopping: EarlyStopping = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a checkpoint can take. Lengths in tokens."""

    max_source_tokens: int
    max_summary_tokens: int
    max_beams: int = 8


@dataclass(frozen=True, slots=True)
class Special:
    """Ids that have a meaning of their own, and what a checkpoint asks of every search; no request changes it.

    The decoder is given `start` and then, whatever it would prefer, `forced`: a BOS or the code of a language, which is
    no part of the summary. `end` ends a summary, and so do `other_ends`.

    suppressed: may never be generated.
    suppressed_first: may not be the first token of a summary.
    bad_words: sequences of tokens, none of them a mere end, that may never be completed.
    as_generate: a hypothesis that is cut is ranked as Hugging Face `generate` ranks it: with the token that would have
        come next, which that library leaves in the summary.
    forced_end: `generate` would have ended what is cut: it is ranked as if it had ended there for nothing.
    """

    start: int
    end: int
    suppressed: Collection[int] = ()
    suppressed_first: Collection[int] = ()
    forced: tuple[int, ...] = ()
    other_ends: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    as_generate: bool = False
    forced_end: bool = False


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Which of a decoder's attentions over the source are told, and how several become one.

    `layers` and `heads` are counted from 0, ascending, each once; every such head of every such layer counts. None is
    the model's default. `mean` averages their distributions; `max` takes the largest weight of each position, then
    divides by the sum over all that the encoder saw.
    """

    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    reduce: Literal["mean", "max"] = "mean"


USUAL_ATTENTION = AttentionOptions()


@dataclass(frozen=True, slots=True)
class AttentionInfo:
    """How many attentions over the source a decoder has, and which are told when nobody chooses.

    `whole`: all the weight of a row falls on the caller's tokens; otherwise a part of it may fall on what was added to
    them (start, end, prefix), and the row sums to less than 1.
    """

    layers: int = 1
    heads: int = 1
    default: AttentionOptions = AttentionOptions((0,), (0,))
    whole: bool = True

    @staticmethod
    def of_transformer(layers: int, heads: int) -> "AttentionInfo":
        """All heads of the last layer but one: their mean is closest to how people align words (Garg et al. 2019)."""
        default = AttentionOptions((max(0, layers - 2),), tuple(range(heads)))
        return AttentionInfo(layers, heads, default, whole=False)

    def chosen(self, options: AttentionOptions) -> AttentionOptions:
        """The same with nothing left open."""
        layers = self.default.layers if options.layers is None else options.layers
        heads = self.default.heads if options.heads is None else options.heads
        return AttentionOptions(layers, heads, options.reduce)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `GET /models` tells of a checkpoint."""

    name: str
    family: str
    digest: str  # "sha256:…" of the manifest
    language: str
    description: str
    limits: Limits
    defaults: DecodingOptions
    card: str  # Markdown
    parameters: int
    precision: str  # "float32" | "bfloat16" | "int8"
    device: str
    special: Special
    attention: AttentionInfo = AttentionInfo()
    decoding: Literal["batched", "unbatched"] = "batched"  # whether a step of all live rows is one pass


class Shared:
    """The tokens that every row of a model can write, in the order of their columns."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.columns: Mapping[int, int] = {token: column for column, token in enumerate(tokens)}


class Candidates:
    """The tokens that the rows of one source can write, one for each column: those of every row, then its own."""

    def __init__(self, shared: Shared, own: Sequence[int] = ()) -> None:
        self._shared, self._own = shared, tuple(own)
        self._columns = {token: len(shared.tokens) + number for number, token in enumerate(own)}

    def __len__(self) -> int:
        return len(self._shared.tokens) + len(self._own)

    def token(self, column: int) -> int:
        shared = self._shared.tokens
        return shared[column] if column < len(shared) else self._own[column - len(shared)]

    def column(self, token: int) -> int | None:
        """None for a token that no row of this source can write."""
        column = self._shared.columns.get(token)
        return self._columns.get(token) if column is None else column

    def columns(self, tokens: Iterable[int]) -> list[int]:
        """Those of the tokens that can be written."""
        return [column for column in map(self.column, tokens) if column is not None]


class Memory(ABC):
    """One encoded source, on the device: whatever the decoder needs of it, opaque to the engine."""

    @property
    @abstractmethod
    def candidates(self) -> Candidates:
        """What its rows can write."""

    @property
    @abstractmethod
    def source_tokens(self) -> int:
        """Number of the caller's tokens: the width of this source's attention rows. What a model adds to them has no
        column."""

    @property
    def ready(self) -> bool:
        """Whether the device has encoded it by now. Rows that join before wait for it, and so do all others."""
        return True


@dataclass(frozen=True, slots=True)
class StepOutput:
    """One decoder step of the rows that were asked for, in that order; tensors are on the device,
    where the next step may overwrite them.

    log_probabilities: (rows, columns) float32, raw: nothing suppressed or blocked yet. Column c stands for token c of
        the row's own candidates; beyond them it is minus infinity.
    attention: (rows, source) float32; columns at and beyond a row's own `source_tokens` are exactly zero. A row sums to
        1, or less where `AttentionInfo.whole` is not so: what is missing fell on what the model added to the source. A
        row that joined without AttentionOptions may be all zero.
    copied: (rows,) float32, probability that the step copies at all (1 - generation gate), or None for families
        without a copy mechanism.
    normalizers: (rows,), the logarithm of the sum of each row's exponentials: log-probabilities + normalizers are its
        logits. None for families that have no logits.
    """

    log_probabilities: Tensor
    attention: Tensor
    copied: Tensor | None
    normalizers: Tensor | None = None


class DecoderState(ABC):
    """The decoder's live rows on the device: numbered slots, owned by one worker.

    A row joins by being written into a free slot and leaves by being overwritten.
    """

    @abstractmethod
    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        """Start decoding one source in these slots (one slot for each beam; they share the memory).

        attention: with nothing left open; None when nobody will look at it, so that it need not be computed.
        """

    @abstractmethod
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        """Advance these slots by one step; `tokens[i]` is the token that slot `rows[i]` wrote last."""

    @abstractmethod
    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        """Slot `rows[i]` continues from what slot `parents[i]` held (all read before any is written)."""

    @abstractmethod
    def leave(self, rows: Sequence[int]) -> None:
        """These slots, all that a source joined with, are free again and keep no memory alive."""


class Seq2SeqModel(ABC):
    """A loaded checkpoint. Tokenizing is thread-safe; what is on the device belongs to the worker.

    On a CPU the worker has several threads: `encode` and `open` are then called from all of them at once, and each
    state belongs to one.
    """

    info: ModelInfo
    encodes_one_by_one: ClassVar[bool] = False  # whatever `encode` is given at once

    @abstractmethod
    def tokenize(self, text: str) -> Tokens:
        """The whole source text; nothing is cut."""

    @abstractmethod
    def tokenize_summary(self, text: str) -> Tokens:
        """A given summary, as the decoder would have written it."""

    @abstractmethod
    def detokenize(self, ids: Sequence[int]) -> Tokens:
        """Summary ids (no special ones) to text, white space at its edges removed, with a span for each id.

        The text of the first of some ids is the beginning of the text of all.
        """

    @property
    def calm_rows(self) -> float:
        """Live rows from which on a step costs each of them the same, however many there are."""
        return math.inf

    @property
    @abstractmethod
    def pieces(self) -> Sequence[str]:
        """The text of every token of the vocabulary with the space before it; "" for those that have none."""

    @property
    @abstractmethod
    def shared(self) -> Shared:
        """What every row can write."""

    @abstractmethod
    def encode(self, sources: Sequence[Sequence[int]], given: Sequence[Sequence[int]] = ()) -> list[Memory]:
        """One encoder pass over the token ids of several sources. A result never depends on its neighbours.

        given: for each source the tokens of a summary that must be among its candidates; none when left out.
        """

    def positions(self, lengths: Sequence[int]) -> int:
        """Number of source positions that one encoder pass computes for sources of these lengths, padding included."""
        return len(lengths) * max(lengths)

    @abstractmethod
    def open(self, capacity: int) -> DecoderState:
        """An empty state with `capacity` slots."""

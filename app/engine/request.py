"""What travels between the routes and the engine: frozen, without a word of HTTP or of a model family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.alignment import Attention
from app.models.base import USUAL_ATTENTION, AttentionOptions, DecodingOptions, ModelInfo, Span

Truncation = Literal["head", "error", "chunk"]
FinishReason = Literal["stop", "length", "given"]


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """A token of one part of a source, as soon as greedy search has chosen it, or None: the part is over.

    `place` counts from 0 in its part: where a text has to be run again, its tokens are told again. `kept` of the tokens
    up to this one stay, whatever follows: the others are a part of a number, which is taken off a summary that is cut.
    `sources` are the tokens of the part with the largest attention weights of this step, and those, largest first.
    """

    part: int
    place: int
    token: int | None
    log_probability: float
    sources: tuple[tuple[int, float], ...]
    kept: int


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """One text to summarize.

    `attention_options` choose among the attentions of the model, where `attention` is asked for.
    `given` is a summary to be scored and aligned (teacher forced) instead of a generated one.
    `timeout` is in seconds from the moment of submission.
    `on_token` is called for each token of a greedy search, by a thread of the worker, which it must not keep waiting.
    """

    text: str
    options: DecodingOptions
    truncation: Truncation = "head"
    attention: bool = False
    attention_options: AttentionOptions = USUAL_ATTENTION
    given: str | None = None
    timeout: float = 60.0
    on_token: Callable[[WrittenToken], None] | None = None


@dataclass(frozen=True, slots=True)
class SourceUse:
    """What part of the source was used. Nothing is cut silently."""

    characters: int
    tokens: int
    used_characters: int
    used_tokens: int

    @property
    def truncated(self) -> bool:
        return self.used_tokens < self.tokens


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds. `queue` is from submission until the model began, `total` from submission to the end.

    With several parts: until the first of them began and until the last of them ended; `encode` and `decode` are sums,
    and may exceed `total`, since parts run side by side.
    """

    queue_ms: float
    encode_ms: float
    decode_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk of a long source and the piece of the joined summary that it became."""

    source: Span
    summary: Span
    score: float
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Summary:
    """The answer to one `SummaryRequest`.

    `score` is the mean raw log-probability per token, end token included. `parts` is set for `truncation="chunk"`.
    """

    model: ModelInfo
    text: str
    finish_reason: FinishReason
    score: float
    source: SourceUse
    summary_tokens: int
    timing: Timing
    parts: tuple[Part, ...] | None = None
    attention: Attention | None = None

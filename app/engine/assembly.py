"""From decoded parts to the answer: ids to text, parts joined into one summary, attention over the whole source."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.alignment import Attention
from app.engine.job import Decoded, Plan
from app.engine.request import FinishReason, Part, SourceUse, Summary, Timing
from app.models.base import Seq2SeqModel, Span, Tokens

SEPARATOR = " "


def assemble(model: Seq2SeqModel, plan: Plan, outcomes: Sequence[Decoded], submitted: float) -> Summary:
    """The answer to one request. `outcomes` are those of the plan's parts, in order."""
    pieces = [plan.given or model.detokenize(outcome.found.hypothesis.tokens) for outcome in outcomes]
    summary, spans = join_pieces(pieces)
    scored = [log_probability for outcome in outcomes for log_probability in outcome.found.hypothesis.scored]
    chunked = plan.request.truncation == "chunk"
    return Summary(
        model=model.info,
        text=summary.text,
        finish_reason=_finish_reason(outcomes),
        score=_mean(scored),
        source=source_use(plan),
        summary_tokens=len(summary.ids),
        timing=_timing(outcomes, submitted),
        parts=_parts(plan, outcomes, spans) if chunked else None,
        attention=_attention(plan, outcomes, summary) if plan.request.attention else None,
    )


def join_pieces(pieces: Sequence[Tokens]) -> tuple[Tokens, list[Span]]:
    """The pieces as one text, with one separator between any two that are not empty, and the span of each piece."""
    if len(pieces) == 1:
        return pieces[0], [Span(0, len(pieces[0].text))]
    text = ""
    ids: list[int] = []
    token_spans: list[Span] = []
    piece_spans: list[Span] = []
    for piece in pieces:
        text += SEPARATOR if text and piece.text else ""
        offset = len(text)
        text += piece.text
        ids += piece.ids
        token_spans += [Span(span.start + offset, span.end + offset) for span in piece.spans]
        piece_spans.append(Span(offset, len(text)))
    return Tokens(text, tuple(ids), tuple(token_spans)), piece_spans


def source_use(plan: Plan) -> SourceUse:
    """How much of the source was read."""
    characters, tokens, used = len(plan.request.text), plan.tokens, plan.parts[-1].stop
    used_characters = characters if used == tokens else plan.source.spans[used - 1].end
    return SourceUse(characters, tokens, used_characters, used)


def _finish_reason(outcomes: Sequence[Decoded]) -> FinishReason:
    reasons = [outcome.found.finish_reason for outcome in outcomes]
    return "length" if "length" in reasons else reasons[0]


def _parts(plan: Plan, outcomes: Sequence[Decoded], summaries: Sequence[Span]) -> tuple[Part, ...]:
    spans = plan.source.spans
    return tuple(
        Part(
            source=Span(spans[part.start].start, max(spans[token].end for token in part)),
            summary=summary,
            score=_mean(outcome.found.hypothesis.scored),
            finish_reason=outcome.found.finish_reason,
        )
        for part, outcome, summary in zip(plan.parts, outcomes, summaries, strict=True)
    )


def _timing(outcomes: Sequence[Decoded], submitted: float) -> Timing:
    decoding = [outcome.finished - outcome.joined - outcome.encode_seconds for outcome in outcomes]
    return Timing(
        queue_ms=1000 * (min(outcome.joined for outcome in outcomes) - submitted),
        encode_ms=1000 * sum(outcome.encode_seconds for outcome in outcomes),
        decode_ms=1000 * sum(decoding),
        total_ms=1000 * (max(outcome.finished for outcome in outcomes) - submitted),
    )


def _attention(plan: Plan, outcomes: Sequence[Decoded], summary: Tokens) -> Attention:
    """Rows of all parts, one after the other; a row's weight outside its own part is zero."""
    used = plan.parts[-1].stop
    weights = np.zeros((len(summary.ids), used), np.float32)
    row = 0
    for part, outcome in zip(plan.parts, outcomes, strict=True):
        assert outcome.weights is not None
        weights[row : row + len(outcome.weights), part.start : part.stop] = outcome.weights
        row += len(outcome.weights)
    log_probabilities = [value for outcome in outcomes for value in outcome.found.hypothesis.log_probabilities]
    return Attention(
        source=plan.source.head(used),
        summary=summary,
        weights=weights,
        log_probabilities=np.array(log_probabilities, np.float32),
        copied=_joined([outcome.copied for outcome in outcomes]),
        dropped=_joined([outcome.dropped for outcome in outcomes]),
    )


def _joined(shares: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    known = [share for share in shares if share is not None]
    return np.concatenate(known) if known else None


def _mean(log_probabilities: Sequence[float]) -> float:
    """0 where there is nothing to score: a summary cut before its first token."""
    return sum(log_probabilities) / len(log_probabilities) if log_probabilities else 0.0

"""From written tokens to the pieces of a summary: as many as there are tokens, and together exactly its text.

A token's piece is whatever it makes certain of the summary, which may be nothing yet: bytes that are no character by
themselves, white space that nothing follows, or a part of a number. That text comes with a later token, while
log-probability and sources always are the token's own.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from app.engine.assembly import SEPARATOR
from app.engine.job import Plan
from app.engine.request import WrittenToken
from app.models.base import Seq2SeqModel, Span


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token added: `text == summary[start:end]`. Sources are spans of the text, with their weights."""

    text: str
    start: int
    end: int
    log_probability: float
    sources: tuple[tuple[Span, float], ...]


class Pieces:
    """The pieces of one summary, in the order of its text.

    The parts of a long text are written side by side. What is told of one waits until those before it are over.
    """

    def __init__(self, model: Seq2SeqModel, plan: Plan) -> None:
        self._model = model
        self._plan = plan
        self._waiting: list[deque[WrittenToken]] = [deque() for _ in plan.parts]
        self._part = 0  # that is being told
        self._ids: list[int] = []  # of this part
        self._start = 0  # of this part
        self._end = 0  # of what has been told

    def add(self, written: WrittenToken) -> Iterator[Piece]:
        """What can be told now; to be read to its end."""
        self._waiting[written.part].append(written)
        while self._part < len(self._waiting) and self._waiting[self._part]:
            following = self._waiting[self._part].popleft()
            if following.place < len(self._ids):
                continue
            if following.token is None:
                self._part, self._ids, self._start = self._part + 1, [], self._end
            else:
                self._ids.append(following.token)
                yield self._piece(following)

    def _piece(self, written: WrittenToken) -> Piece:
        text = self._model.detokenize(self._ids[: written.kept]).text
        if text and self._start:
            text = SEPARATOR + text
        start, self._end = self._end, self._start + len(text)
        return Piece(text[start - self._start :], start, self._end, written.log_probability, self._sources(written))

    def _sources(self, written: WrittenToken) -> tuple[tuple[Span, float], ...]:
        first, spans = self._plan.parts[written.part].start, self._plan.source.spans
        return tuple((spans[first + token], weight) for token, weight in written.sources)

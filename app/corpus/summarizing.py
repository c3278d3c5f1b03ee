"""Shards through an engine that is kept full: the next ones have begun before the last rows of one are over."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf

from app.api.requests import check_text, decoding_options, in_place
from app.config import Settings
from app.corpus.engine import MOST_WAITING, TOGETHER
from app.corpus.shards import Answer, Done, Shard
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.errors import OverloadedError, RequestError, TooLargeError
from app.schemas import Options

Tell = Callable[[int], object]


@dataclass(eq=False, slots=True)
class _Open:
    """A shard some of whose rows have no answer yet."""

    shard: Shard
    answers: dict[int, Answer]
    rows: int


@dataclass(frozen=True, slots=True)
class _Row:
    of: _Open
    place: int
    asked: SummaryRequest | RequestError


Waiting = deque[tuple[_Row, Future[Summary] | RequestError]]


class Summarizer:
    """An engine that runs, and what all rows have in common. From any thread: those of all share the engine."""

    def __init__(self, engine: Engine, settings: Settings, options: Options, pointer: str) -> None:
        """pointer: to the text of a row. Raises InvalidRequestError where the model does not take these options."""
        self._engine, self._settings, self._pointer = engine, settings, pointer
        self._truncation = options.truncation
        self._decoding = decoding_options(options.parameters, engine.info)

    def summarize(self, shards: Iterable[Shard], tell: Tell = lambda _: None) -> Iterator[Done]:
        """Finished ones, in order. tell: called with numbers of rows, as they are answered.

        Raises OverloadedError where the engine cannot go on.
        """
        waiting: Waiting = deque()
        for shard in shards:
            rows = self._rows(shard)
            for first in range(0, len(rows), TOGETHER):
                while len(waiting) >= MOST_WAITING:
                    yield from self._settle(waiting, tell)
                yield from self._submit(rows[first : first + TOGETHER], waiting, tell)
        while waiting:
            yield from self._settle(waiting, tell)

    def _rows(self, shard: Shard) -> list[_Row]:
        """The longest first: those of like length are encoded together, and no lane ends with a long one."""
        texts = shard.texts()
        opened = _Open(shard, {}, len(texts))
        order = sorted(range(len(texts)), key=lambda place: -_length(texts[place]))
        return [_Row(opened, place, self._request(texts[place])) for place in order]

    def _request(self, text: str | RequestError) -> SummaryRequest | RequestError:
        if isinstance(text, RequestError):
            return text
        try:
            check_text(text, self._settings, self._pointer)
        except RequestError as error:
            return error
        return SummaryRequest(text, self._decoding, self._truncation, timeout=inf)

    def _submit(self, rows: Sequence[_Row], waiting: Waiting, tell: Tell) -> Iterator[Done]:
        """As long as there is no room for these rows, the oldest are waited for."""
        while True:
            try:
                waiting.extend(self._begun(rows))
                return
            except (OverloadedError, TooLargeError) as error:
                if len(rows) > 1:
                    break
                if isinstance(error, TooLargeError):
                    waiting.append((rows[0], error))
                    return
                if not waiting:
                    raise
            yield from self._settle(waiting, tell)
        for row in rows:
            yield from self._submit([row], waiting, tell)

    def _begun(self, rows: Sequence[_Row]) -> list[tuple[_Row, Future[Summary] | RequestError]]:
        futures = iter(self._engine.submit([row.asked for row in rows if isinstance(row.asked, SummaryRequest)]))
        return [(row, row.asked if isinstance(row.asked, RequestError) else next(futures)) for row in rows]

    def _settle(self, waiting: Waiting, tell: Tell) -> Iterator[Done]:
        """Wait for the oldest row; its shard, if it was the last of it."""
        row, outcome = waiting.popleft()
        opened = row.of
        opened.answers[row.place] = self._answer(outcome)
        tell(1)
        if len(opened.answers) == opened.rows:
            yield opened.shard.done([opened.answers[place] for place in range(opened.rows)])

    def _answer(self, outcome: Future[Summary] | RequestError) -> Answer:
        """What is wrong with a text is an answer, too; what is wrong with the engine is raised."""
        if isinstance(outcome, RequestError):
            return outcome
        try:
            return outcome.result()
        except OverloadedError:
            raise
        except RequestError as error:
            told = in_place(error, {"/text": self._pointer})
            assert isinstance(told, RequestError)
            return told


def _length(text: str | RequestError) -> int:
    return len(text) if isinstance(text, str) else 0

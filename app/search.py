"""Greedy and beam search, one decoder step at a time, every row with its own options.

The worker asks each search what it needs to know of its rows (`asks`), lets `select` read that off the whole batch in
one go, and hands each search its own answers (`advance`). Beyond that batch-wide read a search is plain
Python over its own numbers, so nothing in it can depend on who shares the batch.

- Candidates of a row come best first, equal values in the order of their columns, and as many as the search looks at:
  a few are read with all the rows, more only where a row needs them. Amid a number none but the right ones are.
- Rules (`app.rules`) pass candidates over: suppressed tokens, `min_length`, repeated n-grams, numbers that the source
  has not. What is recorded and reported are the model's raw log-probabilities; what is summed is what they count, which
  is less for what is repeated with a `repetition_penalty`: on log-probabilities, and with one beam on logits.
- A number that has begun is written to its end, even where that repeats an n-gram; a part of one is taken off a summary
  that is cut.
- The end token is not counted by `min_length` and `max_length`. After `max_length` tokens one last step lets a
  hypothesis end by itself (`stop`); one that does not is cut (`length`).
- Ranking is that of Hugging Face `generate`: the sum / (tokens ** length_penalty); tokens are those of the summary, the
  end token where it was written, and what was forced before them for nothing. Cut hypotheses compete with ended ones by
  the same number; where `Special` says so, with the token that would have come next, or with a forced end.
- A beam stops early once `num_beams` hypotheses have ended: at once with `early_stopping`; without, when none of the
  live ones beats the worst of them at its present length; with "never", when none would even at the best length.
- A row that is left without any candidate is cut where it stands.
"""

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from app.models.base import Candidates, DecodingOptions, Special
from app.models.kernels.top import top
from app.models.transfer import upload
from app.numerals import SourceNumbers
from app.rules import Candidate, Rules, Weighed

# The smallest normal float32 as a logarithm: what a given token counts that the model cannot write at all.
LOWEST_LOG_PROBABILITY = math.log(torch.finfo(torch.float32).tiny)

BLOCK = 64  # columns
MORE = 64  # candidates of a row that are read when those read with the others were not enough
FEWEST = 8  # candidates of a row that are read with the others: a GPU would have to be waited for again


@dataclass(frozen=True, slots=True)
class Ask:
    """What a search wants to know of one row: probably its best `count` columns, or none but the `wanted` ones."""

    count: int = 1
    wanted: tuple[int, ...] | None = None
    normalizer: bool = False


class Answer(NamedTuple):
    """A row's candidates, best first, to be looked at before the next step. `broken`: it has no distribution (NaN).

    `normalizer` makes logits of log-probabilities, where it was asked for and the model has any.
    """

    candidates: Iterable[Candidate]
    broken: bool = False
    normalizer: float = 0.0


class Hypothesis(NamedTuple):
    """A summary so far. `rows[t]` is the row of its search, in step t, that wrote token t."""

    tokens: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()
    end_log_probability: float | None = None

    @property
    def scored(self) -> tuple[float, ...]:
        """Every log-probability that was paid for, the end token's included."""
        end = self.end_log_probability
        return self.log_probabilities if end is None else (*self.log_probabilities, end)

    def extended(self, token: int, log_probability: float, row: int) -> "Hypothesis":
        return Hypothesis((*self.tokens, token), (*self.log_probabilities, log_probability), (*self.rows, row))

    def head(self, count: int) -> "Hypothesis":
        return Hypothesis(self.tokens[:count], self.log_probabilities[:count], self.rows[:count])

    def ended(self, log_probability: float) -> "Hypothesis":
        return self._replace(end_log_probability=log_probability)


@dataclass(frozen=True, slots=True)
class Found:
    """How a search ended."""

    hypothesis: Hypothesis
    finish_reason: Literal["stop", "length", "given"]


_Scored = tuple[float, Hypothesis]  # what it is ranked by
_score = itemgetter(0)


class Written(NamedTuple):
    """The token that a search wrote last; None, and its log-probability 0, once it is over.

    `kept` of the tokens up to it stay, even if the summary is cut here.
    """

    place: int
    token: int | None
    log_probability: float
    kept: int


class Search(ABC):
    """One source being decoded in `width` slots; slot i holds live hypothesis i."""

    width: int
    found: Found | None = None

    def __init__(self, special: Special) -> None:
        self._opening = (special.start, *special.forced)

    @property
    def opening(self) -> bool:
        """Whether the next step only takes in what comes before the summary."""
        return len(self._opening) > 1

    @abstractmethod
    def written(self) -> list[int]:
        """The token that each live hypothesis wrote last."""

    @abstractmethod
    def asks(self) -> list[Ask]:
        """What to read off each live row after the next step."""

    def advance(self, answers: Sequence[Answer]) -> list[int]:
        """Take one step: hypothesis i now continues from what slot `parents[i]` held. Empty when `found` is set."""
        if len(self._opening) == 1:
            return self._advance(answers)
        self._opening = self._opening[1:]
        return [0]

    @abstractmethod
    def _advance(self, answers: Sequence[Answer]) -> list[int]:
        """A step that writes."""


class BeamSearch(Search):
    """Beam search. With `numbers`, none but these are written."""

    def __init__(
        self,
        options: DecodingOptions,
        special: Special,
        candidates: Candidates,
        numbers: SourceNumbers | None = None,
    ) -> None:
        super().__init__(special)
        self.width = options.num_beams
        self._options = options
        self._special = special
        self._candidates = candidates
        self._rules = Rules(options, special, candidates, numbers)
        self._usual = Ask(2 * self.width)
        self._length = 0
        self._live = [Hypothesis()]
        self._totals = [0.0]  # what they count, the best first
        self._ended: list[_Scored] = []  # the best `width`, best first

    def written(self) -> list[int]:
        return [hypothesis.tokens[-1] if hypothesis.tokens else self._opening[0] for hypothesis in self._live]

    def asks(self) -> list[Ask]:
        return [_ask(self._rules, hypothesis.tokens, self._usual) for hypothesis in self._live]

    def _advance(self, answers: Sequence[Answer]) -> list[int]:
        last = self._length == self._options.max_length
        if last and self._special.as_generate:
            return self._conclude([self._next_of_all(answers)])
        ended, grown, totals = self._choose(answers)
        if ended:
            self._ended = sorted([*self._ended, *ended], key=_score, reverse=True)[: self.width]
        if last:
            return self._conclude(self._standing({hypothesis.tokens for _, hypothesis in ended}))
        if not grown:
            return self._conclude([] if self._ended else self._standing(()))
        self._live, self._totals = grown, totals
        self._length += 1
        return self._conclude([]) if self._is_done() else [hypothesis.rows[-1] for hypothesis in grown]

    def _choose(self, answers: Sequence[Answer]) -> tuple[list[_Scored], list[Hypothesis], list[float]]:
        """Of what may follow: the ends among the best `width`, and the best others with their totals."""
        ended: list[_Scored] = []
        grown: list[Hypothesis] = []
        totals: list[float] = []
        for total, row, token, log_probability in self._following(answers):
            live = self._live[row]
            if token not in self._rules.ends:
                grown.append(live.extended(token, log_probability, row))
                totals.append(total)
            elif len(ended) + len(grown) < self.width:
                ended.append((self._scored(total, self._length + 1), live.ended(log_probability)))
            if len(grown) == self.width:
                break
        return ended, grown, totals

    def _following(self, answers: Sequence[Answer]) -> Iterator[tuple[float, int, int, float]]:
        """What may follow, the best first: the total, row, token, log-probability."""
        rows: list[Iterable[Candidate | Weighed]] = [answer.candidates for answer in answers]
        if self._rules.penalises:
            rows = [
                self._rules.weighed(live.tokens, answer.candidates, 0.0)
                for live, answer in zip(self._live, answers, strict=True)
            ]
        for total, row, candidate in _best_first(self._totals, rows):
            token = self._candidates.token(candidate[0])
            if self._rules.allow(self._live[row].tokens, token):
                yield -total, row, token, candidate[1]

    def _is_done(self) -> bool:
        """Whether as many as are followed have ended, and those that go on are not worth it."""
        stopping, length = self._options.early_stopping, self._length
        if len(self._ended) < self.width:
            return False
        if stopping == "never" and self._options.length_penalty > 0:
            length = self._options.max_length + 1
        return stopping is True or self._ended[-1][0] >= self._scored(self._totals[0], length)

    def _standing(self, ended: Container[tuple[int, ...]]) -> list[_Scored]:
        """The live ones, without those that have just ended."""
        live = zip(self._totals, self._live, strict=True)
        return [(self._scored(total, self._length), one) for total, one in live if one.tokens not in ended]

    def _next_of_all(self, answers: Sequence[Answer]) -> _Scored:
        """What `generate` ranks after `max_length` tokens: the best that may follow, though it be no end; or with a
        forced end, which costs nothing, the best that there is."""
        forced, best = self._special.forced_end, self._totals[0]
        following = (one for one in self._following(answers) if not forced or one[1] == 0)
        total, row, token, log_probability = next(following, (best, 0, None, 0.0))
        live = self._live[row]
        last = live.ended(log_probability) if token in self._rules.ends else live
        return self._scored(best if forced else total, self._length + 1), last

    def _conclude(self, cut: Sequence[_Scored]) -> list[int]:
        _, best = max([*self._ended, *cut], key=_score)
        self.found = _cut(self._rules, best) if best.end_log_probability is None else Found(best, "stop")
        return []

    def _scored(self, total: float, length: int) -> float:
        """What hypotheses are ranked by. An empty one, which only a row without any candidate ends with, has 0."""
        return total / math.pow(max(length + len(self._special.forced), 1), self._options.length_penalty)


def _best_first(
    totals: Sequence[float], rows: Sequence[Iterable[Candidate | Weighed]]
) -> Iterator[tuple[float, int, Candidate | Weighed]]:
    """Minus the total with what a candidate counts, so that the best is the smallest; row, candidate."""
    candidates = [iter(row) for row in rows]
    heads = [
        (-(totals[row] + first[-1]), row, first)
        for row, own in enumerate(candidates)
        if (first := next(own, None)) is not None
    ]
    heapq.heapify(heads)
    while heads:
        best = heads[0]
        yield best
        row = best[1]
        following = next(candidates[row], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (-(totals[row] + following[-1]), row, following))


class _OneRow(Search):
    """A search that follows one hypothesis."""

    width = 1

    def __init__(self, special: Special) -> None:
        super().__init__(special)
        self._tokens: list[int] = []
        self._log_probabilities: list[float] = []

    def written(self) -> list[int]:
        return self._tokens[-1:] or [self._opening[0]]

    def _grow(self, token: int, log_probability: float) -> list[int]:
        self._tokens.append(token)
        self._log_probabilities.append(log_probability)
        return [0]

    def _hypothesis(self, end_log_probability: float | None = None) -> Hypothesis:
        rows = (0,) * len(self._tokens)
        return Hypothesis(tuple(self._tokens), tuple(self._log_probabilities), rows, end_log_probability)


class GreedySearch(_OneRow):
    """What `BeamSearch` does with one beam, with less ado; but logits are penalised where the model has any."""

    def __init__(
        self,
        options: DecodingOptions,
        special: Special,
        candidates: Candidates,
        numbers: SourceNumbers | None = None,
    ) -> None:
        super().__init__(special)
        self._max_length = options.max_length
        self._candidates = candidates
        self._rules = Rules(options, special, candidates, numbers)
        self._usual = Ask() if options.repetition_penalty == 1 else Ask(FEWEST, normalizer=True)

    @property
    def latest(self) -> Written:
        """After a step."""
        tokens = self._tokens
        if self.found:
            return Written(len(tokens), None, 0.0, len(self.found.hypothesis.tokens))
        return Written(len(tokens) - 1, tokens[-1], self._log_probabilities[-1], self._rules.kept(tokens))

    def asks(self) -> list[Ask]:
        return [_ask(self._rules, self._tokens, self._usual)]

    def _advance(self, answers: Sequence[Answer]) -> list[int]:
        candidates: Iterable[Candidate | Weighed]
        candidates, _, normalizer = answers[0]
        if self._rules.penalises:
            candidates = self._rules.weighed(self._tokens, candidates, normalizer)
        for candidate in candidates:
            token = self._candidates.token(candidate[0])
            if self._rules.allow(self._tokens, token):
                return self._take(token, candidate[1])
        self.found = _cut(self._rules, self._hypothesis())
        return []

    def _take(self, token: int, log_probability: float) -> list[int]:
        if token in self._rules.ends:
            self.found = Found(self._hypothesis(log_probability), "stop")
        elif len(self._tokens) == self._max_length:
            self.found = _cut(self._rules, self._hypothesis())
        else:
            return self._grow(token, log_probability)
        return []


class ForcedDecoding(_OneRow):
    """Writes a given summary and its end token, whatever the model would have preferred (teacher forcing)."""

    def __init__(self, given: Sequence[int], special: Special, candidates: Candidates) -> None:
        """candidates: have every token that is given."""
        super().__init__(special)
        self._given = tuple(given)
        self._wanted = candidates.columns([*given, special.end])
        assert len(self._wanted) == len(given) + 1

    def asks(self) -> list[Ask]:
        return [Ask(wanted=(self._wanted[len(self._tokens)],))]

    def _advance(self, answers: Sequence[Answer]) -> list[int]:
        _, log_probability = next(iter(answers[0].candidates), (None, LOWEST_LOG_PROBABILITY))
        log_probability = max(log_probability, LOWEST_LOG_PROBABILITY)
        if len(self._tokens) < len(self._given):
            return self._grow(self._given[len(self._tokens)], log_probability)
        self.found = Found(self._hypothesis(log_probability), "given")
        return []


def _ask(rules: Rules, tokens: Sequence[int], usual: Ask) -> Ask:
    """What to ask of a row that has written these tokens."""
    only = rules.only(tokens)
    return usual if only is None else replace(usual, wanted=only)


def _cut(rules: Rules, hypothesis: Hypothesis) -> Found:
    """A hypothesis that did not end by itself."""
    return Found(hypothesis.head(rules.kept(hypothesis.tokens)), "length")


def select(log_probabilities: Tensor, asks: Sequence[Ask], normalizers: Tensor | None = None) -> list[Answer]:
    """Read what every search asks off one step's log-probabilities, with a single copy to the host.

    log_probabilities: (rows, columns), raw; one ask and one answer for each row. An answer reads on where a search
    looks at more than it asked for: they must stay as they are until all have advanced.
    normalizers: (rows,), as in `StepOutput`; another copy, where anyone asks for them.
    """
    answers = _read(log_probabilities, asks)
    if normalizers is None or not any(ask.normalizer for ask in asks):
        return answers
    own = zip(answers, normalizers.tolist(), strict=True)
    return [answer._replace(normalizer=normalizer) for answer, normalizer in own]


def _read(log_probabilities: Tensor, asks: Sequence[Ask]) -> list[Answer]:
    count = max(ask.count for ask in asks)
    if log_probabilities.device.type == "cpu" and (best := top(log_probabilities, count)):
        read = zip(asks, best[1].tolist(), best[0].tolist(), strict=True)
        return [_ranked(log_probabilities, row, *one) for row, one in enumerate(read)]
    if count == 1 and log_probabilities.device.type == "cpu":
        values, columns = _first(log_probabilities)
    else:
        values, columns = _top(log_probabilities, max(count, FEWEST) + 1)
    width, most = values.shape[1], max(len(ask.wanted or ()) for ask in asks)
    if most:
        padded = [[*(ask.wanted or ()), *repeat(0, most - len(ask.wanted or ()))] for ask in asks]
        (wanted,) = upload([torch.tensor(padded)], columns.device)
        values = torch.cat([values, log_probabilities.gather(1, wanted)], dim=1)
        columns = torch.cat([columns, wanted], dim=1)
    # float64 holds float32 values and columns alike exactly, so that one copy carries both.
    both = torch.stack((columns.double(), values.double())).cpu()
    read = zip(asks, both[0].long().tolist(), both[1].tolist(), strict=True)
    return [_answer(log_probabilities, row, width, *one) for row, one in enumerate(read)]


def _ranked(scores: Tensor, row: int, ask: Ask, columns: list[int], values: list[float]) -> Answer:
    """With the best of a row in their order."""
    broken = not -math.inf < values[0] < math.inf
    if ask.wanted is not None:
        return Answer(sorted(_possible(ask.wanted, scores[row, list(ask.wanted)].tolist()), key=_rank), broken)
    if values[-1] == -math.inf:
        return Answer(_possible(columns, values), broken)
    return Answer(chain(zip(columns, values, strict=True), _beyond(scores, row, len(values))), broken)


def _beyond(scores: Tensor, row: int, count: int) -> Iterator[Candidate]:
    """All of a row but its best `count`, best first."""
    best = top(scores[row : row + 1], MORE)
    assert best
    values, columns = best[0][0].tolist(), best[1][0].tolist()
    yield from islice(_possible(columns, values), count, None)
    every = scores[row].sort(descending=True, stable=True)
    yield from islice(_possible(every.indices.tolist(), every.values.tolist()), max(count, MORE), None)


def _possible(columns: Sequence[int], values: Sequence[float]) -> Iterator[Candidate]:
    return ((column, value) for column, value in zip(columns, values, strict=True) if value > -math.inf)


def _answer(scores: Tensor, row: int, width: int, ask: Ask, columns: list[int], values: list[float]) -> Answer:
    broken = not -math.inf < values[0] < math.inf
    if ask.wanted is not None:
        wanted = _possible(ask.wanted, values[width : width + len(ask.wanted)])
        return Answer(sorted(wanted, key=_rank), broken)
    return Answer(_candidates(scores, row, columns[:width], values[:width]), broken)


def _candidates(scores: Tensor, row: int, columns: list[int], values: list[float]) -> Iterator[Candidate]:
    """All of a row, best first, equals by column; the best are given, more are read once somebody looks."""
    seen, count, every = 0, len(columns), scores.shape[1]
    while True:
        read: Iterable[Candidate] = zip(columns, values, strict=True)
        if len(set(values)) < count:
            read = sorted(read, key=_rank)
        # Others may be equal to the last of several: it has to wait for them. A single one is the first of its equals.
        floor = values[-1] if 1 < count < every else -math.inf
        for candidate in islice(read, seen, None):
            if not candidate[1] > floor:
                break
            seen += 1
            yield candidate
        if count == every:
            return
        count = min(16 * count, every)
        values, columns = (tensor.tolist() for tensor in scores[row].topk(count))


def _rank(candidate: Candidate) -> tuple[float, int]:
    return -candidate[1], candidate[0]


def _first(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best of each row, the first of equals: values and columns (rows, 1)."""
    columns = torch.from_numpy(scores.numpy().argmax(1, keepdims=True))  # ten times as fast as torch's
    return scores.gather(1, columns), columns


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best `count` of each row, best first, equals in any order: values and columns (rows, count).

    Only the blocks with the `count` highest peaks can hold them.
    """
    rows, columns = scores.shape
    count, blocks = min(count, columns), columns // BLOCK
    if columns % BLOCK or blocks <= count:
        return scores.topk(count)
    every = scores.reshape(rows * blocks, BLOCK)
    highest = every.amax(1).view(rows, blocks).topk(count, sorted=False).indices
    first = torch.arange(0, rows * blocks, blocks, device=scores.device).unsqueeze(1)
    values, places = every.index_select(0, (highest + first).flatten()).view(rows, -1).topk(count)
    return values, highest.gather(1, places // BLOCK) * BLOCK + places % BLOCK

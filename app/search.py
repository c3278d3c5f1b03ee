"""Greedy and beam search, one decoder step at a time, every row with its own options.

The worker asks each search what it needs to know of its rows (`asks`), lets `CandidateSelector` read that off the
whole batch in one go, and hands each search its own answers (`advance`). Beyond that batch-wide read a search is plain
Python over its own numbers, so nothing in it can depend on who shares the batch.

- Candidates of a row: `argmax` for a beam of one, else the best `2 * num_beams`, found by a `topk` whose K is the same
  for every row of a model. Equal values are ordered by the lower column.
- Blocking (suppressed tokens, `min_length`, repeated n-grams, numbers that the source has not) removes candidates and
  never renormalises: what is recorded, summed and reported are the model's raw log-probabilities.
- A number that has begun is written to its end, even where that repeats an n-gram; a part of one is taken off a summary
  that is cut.
- The end token is not counted by `min_length` and `max_length`. After `max_length` tokens one last step lets a
  hypothesis end by itself (`stop`); one that does not is cut (`length`).
- Ranking is that of Hugging Face `generate`: sum of log-probabilities / (tokens ** length_penalty), the end token
  counted where it was written. Cut hypotheses compete with ended ones by the same number.
- A beam stops early once `num_beams` hypotheses have ended and none of the live ones beats the worst of them at its
  present length: Hugging Face's `early_stopping=False`.
- A row that is left without any candidate is cut where it stands.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from app.models.base import Candidates, DecodingOptions, Special
from app.models.transfer import upload
from app.numerals import SourceNumbers

# The smallest normal float32 as a logarithm: what a given token counts that the model cannot write at all.
LOWEST_LOG_PROBABILITY = math.log(torch.finfo(torch.float32).tiny)

Candidate = tuple[int, float]  # column, raw log-probability


@dataclass(frozen=True, slots=True)
class Ask:
    """What a search wants to know of one row: its best `count` columns, or the log-probability of the `wanted` one.

    Banned are a few columns, and those that would write a wrong number: (any,), on the host.
    """

    count: int = 1
    banned: tuple[int, ...] = ()
    wrong_numbers: Tensor | None = None
    wanted: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A row's candidates, best first; none when all are blocked. `broken`: the model gave no distribution (NaN)."""

    candidates: tuple[Candidate, ...]
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Hypothesis:
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
        return Hypothesis(self.tokens, self.log_probabilities, self.rows, log_probability)


@dataclass(frozen=True, slots=True)
class Found:
    """How a search ended."""

    hypothesis: Hypothesis
    finish_reason: Literal["stop", "length", "given"]


class Search(ABC):
    """One source being decoded in `width` slots; slot i holds live hypothesis i."""

    width: int
    found: Found | None = None

    @abstractmethod
    def written(self) -> list[int]:
        """The token that each live hypothesis wrote last."""

    @abstractmethod
    def asks(self) -> list[Ask]:
        """What to read off each live row after the next step."""

    @abstractmethod
    def advance(self, answers: Sequence[Answer]) -> list[int]:
        """Take one step: hypothesis i now continues from what slot `parents[i]` held. Empty when `found` is set."""


class BeamSearch(Search):
    """Beam search; a beam of one is greedy search. With `numbers`, none but these are written."""

    def __init__(
        self,
        options: DecodingOptions,
        special: Special,
        candidates: Candidates,
        numbers: SourceNumbers | None = None,
    ) -> None:
        self.width = options.num_beams
        self._options = options
        self._special = special
        self._candidates = candidates
        self._numbers = numbers
        self._length = 0
        self._live = [Hypothesis()]
        self._ended: list[Hypothesis] = []  # the best `width`, best first

    def written(self) -> list[int]:
        return [hypothesis.tokens[-1] if hypothesis.tokens else self._special.start for hypothesis in self._live]

    def asks(self) -> list[Ask]:
        return [self._ask(hypothesis.tokens) for hypothesis in self._live]

    def _ask(self, tokens: Sequence[int]) -> Ask:
        count = 1 if self.width == 1 else 2 * self.width
        banned = banned_tokens(tokens, self._options, self._special)
        if self._numbers is None:
            return Ask(count, self._columns(banned))
        following = self._numbers.after(tokens)
        return Ask(count, self._columns(set(banned) - following.going_on), following.wrong)

    def _columns(self, tokens: Collection[int]) -> tuple[int, ...]:
        return tuple(self._candidates.columns(tokens)) if tokens else ()

    def advance(self, answers: Sequence[Answer]) -> list[int]:
        ranked = self._rank(answers)
        self._end([choice for choice in ranked[: self.width] if choice.token == self._special.end])
        if self._length == self._options.max_length:
            ended_rows = {choice.row for choice in ranked[: self.width] if choice.token == self._special.end}
            return self._conclude([live for row, live in enumerate(self._live) if row not in ended_rows])
        grown = [choice for choice in ranked if choice.token != self._special.end][: self.width]
        if not grown:
            return self._conclude([] if self._ended else self._live)
        return self._grow(grown)

    def _rank(self, answers: Sequence[Answer]) -> list["_Choice"]:
        """Every extension of every live hypothesis, the best `2 * width`; ties by row, then by column."""
        choices = [
            (-(total + log_probability), row, column, log_probability)
            for row, (total, answer) in enumerate(zip(self._totals(), answers, strict=True))
            for column, log_probability in answer.candidates
        ]
        return [
            _Choice(row, self._candidates.token(column), log_probability)
            for _, row, column, log_probability in sorted(choices)[: 2 * self.width]
        ]

    def _totals(self) -> list[float]:
        return [sum(hypothesis.log_probabilities) for hypothesis in self._live]

    def _end(self, choices: Sequence["_Choice"]) -> None:
        ended = [self._live[choice.row].ended(choice.log_probability) for choice in choices]
        self._ended = sorted(self._ended + ended, key=self._penalised, reverse=True)[: self.width]

    def _grow(self, choices: Sequence["_Choice"]) -> list[int]:
        self._live = [
            self._live[choice.row].extended(choice.token, choice.log_probability, choice.row) for choice in choices
        ]
        self._length += 1
        best_live = max(self._penalised(hypothesis) for hypothesis in self._live)
        if len(self._ended) == self.width and self._penalised(self._ended[-1]) >= best_live:
            return self._conclude([])
        return [choice.row for choice in choices]

    def _conclude(self, cut: Sequence[Hypothesis]) -> list[int]:
        best = max([*self._ended, *cut], key=self._penalised)
        if best.end_log_probability is not None:
            self.found = Found(best, "stop")
        else:
            self.found = Found(best.head(self._numbers.finished(best.tokens)) if self._numbers else best, "length")
        return []

    def _penalised(self, hypothesis: Hypothesis) -> float:
        return penalised_score(hypothesis.scored, self._options.length_penalty)


class _Choice(NamedTuple):
    """One extension of one live hypothesis."""

    row: int
    token: int
    log_probability: float


class ForcedDecoding(Search):
    """Writes a given summary and its end token, whatever the model would have preferred (teacher forcing)."""

    width = 1

    def __init__(self, given: Sequence[int], special: Special, candidates: Candidates) -> None:
        """candidates: have every token that is given."""
        self._given = tuple(given)
        self._wanted = candidates.columns([*given, special.end])
        assert len(self._wanted) == len(given) + 1
        self._special = special
        self._hypothesis = Hypothesis()

    def written(self) -> list[int]:
        tokens = self._hypothesis.tokens
        return [tokens[-1] if tokens else self._special.start]

    def asks(self) -> list[Ask]:
        return [Ask(wanted=self._wanted[len(self._hypothesis.tokens)])]

    def advance(self, answers: Sequence[Answer]) -> list[int]:
        ((_, log_probability),) = answers[0].candidates
        log_probability = max(log_probability, LOWEST_LOG_PROBABILITY)
        if len(self._hypothesis.tokens) == len(self._given):
            self.found = Found(self._hypothesis.ended(log_probability), "given")
            return []
        token = self._given[len(self._hypothesis.tokens)]
        self._hypothesis = self._hypothesis.extended(token, log_probability, row=0)
        return [0]


def penalised_score(log_probabilities: Sequence[float], length_penalty: float) -> float:
    """What hypotheses are ranked by. An empty one, which only a row without a single candidate ends with, scores 0."""
    return sum(log_probabilities) / math.pow(max(len(log_probabilities), 1), length_penalty)


def banned_tokens(tokens: Sequence[int], options: DecodingOptions, special: Special) -> tuple[int, ...]:
    """What a hypothesis may not write next."""
    banned = repeated_ngram_tokens(tokens, options.no_repeat_ngram_size)
    return (special.end, *banned) if len(tokens) < options.min_length else banned


def repeated_ngram_tokens(tokens: Sequence[int], size: int) -> tuple[int, ...]:
    """Tokens that would complete an n-gram of this size for the second time; none for a size of 0."""
    if size < 1 or len(tokens) < size:
        return ()
    beginning = tuple(tokens[len(tokens) - size + 1 :])
    ngrams = (tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))
    return tuple({ngram[-1] for ngram in ngrams if ngram[:-1] == beginning})


class CandidateSelector:
    """Reads what every search asks off one step's log-probabilities: one copy to the device, and one to the host.

    Only where equal values may have been left out is there another, for that row.
    """

    def __init__(self, suppressed: Sequence[int], max_beams: int) -> None:
        """suppressed: columns that are never written."""
        self._suppressed = torch.tensor(suppressed, dtype=torch.long)
        # One more than the widest beam needs: it shows whether equal values reach across the boundary.
        self._count = 2 * max_beams + 1

    def select(self, log_probabilities: Tensor, asks: Sequence[Ask]) -> list[Answer]:
        """log_probabilities: (rows, columns), raw, overwritten; one ask and one answer for each row."""
        forced = [row for row, ask in enumerate(asks) if ask.wanted is not None]
        greedy = [row for row, ask in enumerate(asks) if ask.wanted is None and ask.count == 1]
        beams = [row for row, ask in enumerate(asks) if ask.wanted is None and ask.count > 1]
        device, width = log_probabilities.device, log_probabilities.shape[1]
        wanted = [ask.wanted for ask in asks if ask.wanted is not None]
        on_host = [self._suppressed, _banned(asks, width), *map(_indices, (wanted, forced, greedy, beams))]
        suppressed, banned, columns, *rows = upload(on_host, device)
        peaks = log_probabilities.amax(1)
        readings = []
        if forced:
            readings.append(_read_wanted(log_probabilities, forced, rows[0], columns))
        scores = log_probabilities.index_fill_(1, suppressed, -math.inf)
        scores.view(-1).index_fill_(0, banned, -math.inf)
        if greedy:
            readings.append(_read_best(scores, greedy, rows[1]))
        if beams:
            readings.append(_read_top(scores, beams, rows[2], min(self._count, width)))
        highest, candidates = _to_host(peaks, readings)
        for row in beams:
            if _reaches_across(candidates[row], asks[row].count) and len(candidates[row]) < width:
                candidates[row] = _sorted_candidates(scores[row], asks[row].count)
        return [
            Answer(_ordered(candidates[row], asks[row]), broken=not -math.inf < highest[row] < math.inf)
            for row in range(len(asks))
        ]


def _banned(asks: Sequence[Ask], width: int) -> Tensor:
    """Where a row of `width` columns stands, in all of them, what it may not write."""
    banned = _indices([row * width + column for row, ask in enumerate(asks) for column in ask.banned])
    wrong = [ask.wrong_numbers + row * width for row, ask in enumerate(asks) if ask.wrong_numbers is not None]
    return torch.cat([banned, *wrong])


def _indices(numbers: Sequence[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Candidates of some rows, still on the device. columns, values: (len(rows), any)."""

    rows: list[int]
    columns: Tensor
    values: Tensor


def _read_wanted(log_probabilities: Tensor, rows: list[int], taken: Tensor, wanted: Tensor) -> _Reading:
    columns = wanted.unsqueeze(1)
    return _Reading(rows, columns, _taken(log_probabilities, taken).gather(1, columns))


def _read_best(scores: Tensor, rows: list[int], taken: Tensor) -> _Reading:
    values, columns = _taken(scores, taken).max(1, keepdim=True)  # the first of equals
    return _Reading(rows, columns, values)


def _read_top(scores: Tensor, rows: list[int], taken: Tensor, count: int) -> _Reading:
    values, columns = _taken(scores, taken).topk(count, dim=1)  # equals come in any order: the host puts them right
    return _Reading(rows, columns, values)


def _taken(scores: Tensor, rows: Tensor) -> Tensor:
    return scores if len(rows) == len(scores) else scores[rows]


def _to_host(peaks: Tensor, readings: Sequence[_Reading]) -> tuple[list[float], dict[int, list[Candidate]]]:
    """float64 holds float32 values and columns alike exactly, so that one copy carries both."""
    tensors = [peaks, *(tensor for reading in readings for tensor in (reading.columns, reading.values))]
    numbers: Iterator[float] = iter(torch.cat([tensor.reshape(-1).double() for tensor in tensors]).tolist())
    peak_values = list(islice(numbers, len(peaks)))
    candidates = {}
    for reading in readings:
        width = reading.columns.shape[1]
        columns = list(map(int, islice(numbers, reading.columns.numel())))
        values = list(islice(numbers, reading.values.numel()))
        for number, row in enumerate(reading.rows):
            part = slice(number * width, (number + 1) * width)
            candidates[row] = list(zip(columns[part], values[part], strict=True))
    return peak_values, candidates


def _reaches_across(candidates: Sequence[Candidate], count: int) -> bool:
    """Whether the last candidate needed has an equal at the very end, so that others like it may have been left out."""
    return len(candidates) > count and candidates[count - 1][1] == candidates[-1][1] > -math.inf


def _sorted_candidates(scores: Tensor, count: int) -> list[Candidate]:
    """The same, the slow and exact way: equals stay in the order of their columns. scores: (columns,)."""
    values, columns = scores.sort(descending=True, stable=True)
    return list(zip(columns[:count].tolist(), values[:count].tolist(), strict=True))


def _ordered(candidates: Sequence[Candidate], ask: Ask) -> tuple[Candidate, ...]:
    if ask.wanted is not None:
        return tuple(candidates)
    possible = [(column, value) for column, value in candidates if value > -math.inf]
    if ask.count == 1:
        return tuple(possible)
    return tuple(sorted(possible, key=lambda candidate: (-candidate[1], candidate[0]))[: ask.count])

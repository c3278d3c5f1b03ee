"""What a summary may write and what it counts, one candidate at a time.

Rules pass candidates over or weigh them and never renormalise. They see a summary as Hugging Face `generate` does:
after what the decoder was given before it, its start and what is forced upon it.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence

from app.models.base import Candidates, DecodingOptions, Special
from app.numerals import SourceNumbers

Candidate = tuple[int, float]  # column, raw log-probability
Weighed = tuple[int, float, float]  # and what it counts


class Rules:
    """Those of one source. With `numbers`, no numbers but these are written."""

    def __init__(
        self, options: DecodingOptions, special: Special, candidates: Candidates, numbers: SourceNumbers | None
    ) -> None:
        self._options, self._special, self._candidates, self._numbers = options, special, candidates, numbers
        self._before = (special.start, *special.forced)
        self._has_bad = bool(special.bad_words or special.suppressed_first)
        self.ends = (special.end, *special.other_ends)
        self.penalises = options.repetition_penalty != 1

    def allow(self, tokens: Sequence[int], token: int) -> bool:
        """Whether this token may be written after those."""
        special = self._special
        if token in special.suppressed or (self._numbers and not self._numbers.allow(tokens, token)):
            return False
        if token in self.ends and len(tokens) < self._options.min_length:
            return False
        if self._has_bad and self._is_bad(tokens, token):
            return False
        return not self._is_written(tokens, token) or not self._repeats(tokens, token)

    def only(self, tokens: Sequence[int]) -> tuple[int, ...] | None:
        """The columns of the few tokens that may be written after these; None where they are not few."""
        only = self._numbers.only(tokens) if self._numbers else None
        return None if only is None else tuple(self._candidates.columns(only))

    def kept(self, tokens: Sequence[int]) -> int:
        """How many of these are left if nothing follows: a mere part of a number at their end is taken away."""
        return self._numbers.finished(tokens) if self._numbers else len(tokens)

    def weighed(self, tokens: Sequence[int], candidates: Iterable[Candidate], normalizer: float) -> Iterator[Weighed]:
        """What may follow upon these tokens, best first, as the penalty has it: what is repeated only goes down, since
        no penalty is below 1.

        normalizer: what makes logits, which are then penalised, of log-probabilities; else 0.
        """
        penalty = self._options.repetition_penalty
        waiting: list[tuple[float, int, float]] = []  # minus what it counts, column, log-probability
        for column, log_probability in candidates:
            while waiting and -waiting[0][0] > log_probability:
                yield _counted(heapq.heappop(waiting))
            if not self._is_written(tokens, self._candidates.token(column)):
                yield column, log_probability, log_probability
                continue
            logit = log_probability + normalizer
            penalised = logit * penalty if logit < 0 else logit / penalty
            heapq.heappush(waiting, (normalizer - penalised, column, log_probability))
        while waiting:
            yield _counted(heapq.heappop(waiting))

    def _repeats(self, tokens: Sequence[int], token: int) -> bool:
        """Whether the token, which is there, would complete an n-gram for the second time, and go on with no number."""
        if token not in repeated_ngram_tokens((*self._before, *tokens), self._options.no_repeat_ngram_size):
            return False
        return not (self._numbers and self._numbers.goes_on(tokens, token))

    def _is_written(self, tokens: Sequence[int], token: int) -> bool:
        return token in tokens or token in self._before

    def _is_bad(self, tokens: Sequence[int], token: int) -> bool:
        if not tokens and token in self._special.suppressed_first:
            return True
        written = (*self._before, *tokens, token)
        return any(word == written[-len(word) :] for word in self._special.bad_words if word[-1] == token)


def repeated_ngram_tokens(tokens: Sequence[int], size: int) -> tuple[int, ...]:
    """Tokens that would complete an n-gram of this size for the second time; none for a size of 0."""
    if size < 1 or len(tokens) < size:
        return ()
    beginning = tuple(tokens[len(tokens) - size + 1 :])
    ngrams = (tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))
    return tuple({ngram[-1] for ngram in ngrams if ngram[:-1] == beginning})


def _counted(waiting: tuple[float, int, float]) -> Weighed:
    negative, column, log_probability = waiting
    return column, log_probability, -negative

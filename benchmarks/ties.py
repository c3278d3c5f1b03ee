"""Near-ties: the texts whose summaries hang on the smallest difference between two candidates.

Whether a result depends on its company shows first where the candidate that was chosen leads the next one by next to
nothing: there the last bit decides. The closest of many real texts are test cases (`tests/engine/test_near_ties.py`).
"""

import heapq
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from app.models.base import Candidates, DecodingOptions, Memory, Seq2SeqModel
from app.models.registry import load
from app.numerals import Numerals, SourceNumbers
from app.rules import Candidate, Rules
from app.search import Answer, BeamSearch, select
from benchmarks.texts import mixed
from training.data import Pair, read

ROWS = 64


@dataclass(frozen=True, slots=True)
class NearTie:
    """`gap`: the smallest lead, in any step, of the last extension that was kept over the first that was left."""

    id: str
    precision: str
    beams: int
    gap: float
    text: str


class WatchedSearch:
    """A beam search, and by how much its choices were made: log-probabilities, summed over each hypothesis."""

    def __init__(self, search: BeamSearch, rules: Rules, candidates: Candidates) -> None:
        """rules: those of the search."""
        self.search = search
        self.gap = math.inf
        self._rules, self._candidates = rules, candidates
        self._live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # the sum and the tokens of each hypothesis

    def advance(self, answers: Sequence[Answer]) -> list[int]:
        width = self.search.width
        allowed = [
            list(islice(self._allowed(tokens, answer), 2 * width))
            for (_, tokens), answer in zip(self._live, answers, strict=True)
        ]
        scores = {
            (row, self._candidates.token(column)): self._live[row][0] + value
            for row, candidates in enumerate(allowed)
            for column, value in candidates
        }
        ranked = sorted(scores.values(), reverse=True)
        if len(ranked) > width:
            self.gap = min(self.gap, ranked[width - 1] - ranked[width])
        parents = self.search.advance([Answer(candidates) for candidates in allowed])
        if parents:
            steps = zip(parents, self.search.written(), strict=True)
            self._live = [(scores[row, token], (*self._live[row][1], token)) for row, token in steps]
        return parents

    def _allowed(self, tokens: Sequence[int], answer: Answer) -> Iterator[Candidate]:
        return (one for one in answer.candidates if self._rules.allow(tokens, self._candidates.token(one[0])))


class Watcher:
    """Decodes batches as the engine does, one after the other."""

    def __init__(self, model: Seq2SeqModel, options: DecodingOptions) -> None:
        self._model, self._options = model, options
        self._numerals = Numerals(model.pieces)

    @torch.inference_mode()
    def watch(self, sources: Sequence[Sequence[int]]) -> list[WatchedSearch]:
        """Decode these sources together, each to its end."""
        memories = self._model.encode(sources)
        watched = [self._watched(source, memory) for source, memory in zip(sources, memories, strict=True)]
        width = self._options.num_beams
        slots = [range(number * width, (number + 1) * width) for number in range(len(sources))]
        state = self._model.open(len(sources) * width)
        for number, memory in enumerate(memories):
            state.join(slots[number], memory)
        while live := [number for number, one in enumerate(watched) if not one.search.found]:
            asks = [watched[number].search.asks() for number in live]
            written = [watched[number].search.written() for number in live]
            rows = [slot for number, own in zip(live, asks, strict=True) for slot in slots[number][: len(own)]]
            output = state.step(rows, list(chain.from_iterable(written)))
            answers = iter(select(output.log_probabilities, list(chain.from_iterable(asks))))
            moved: list[tuple[int, int]] = []
            for number, own in zip(live, asks, strict=True):
                parents = watched[number].advance([next(answers) for _ in own])
                moved += [(slots[number][row], slots[number][parent]) for row, parent in enumerate(parents)]
            if moved:
                state.reorder(*map(list, zip(*moved, strict=True)))
        return watched

    def _watched(self, source: Sequence[int], memory: Memory) -> WatchedSearch:
        options, special = self._options, self._model.info.special
        numbers = SourceNumbers(self._numerals, source, range(len(source)))
        search = BeamSearch(options, special, memory.candidates, numbers)
        return WatchedSearch(search, Rules(options, special, memory.candidates, numbers), memory.candidates)


def near_ties(model: Seq2SeqModel, pairs: Sequence[Pair], beams: int, keep: int) -> list[NearTie]:
    """The `keep` closest of these texts, the closest first."""
    return heapq.nsmallest(keep, _watched(model, pairs, beams), key=lambda case: (case.gap, case.id))


def _watched(model: Seq2SeqModel, pairs: Sequence[Pair], beams: int) -> Iterator[NearTie]:
    """Every text that has tokens, batched by length."""
    info = model.info
    watcher = Watcher(model, replace(info.defaults, num_beams=beams))
    tokens = [(model.tokenize(pair.text).ids[: info.limits.max_source_tokens], pair) for pair in pairs]
    ordered = sorted(((ids, pair) for ids, pair in tokens if ids), key=lambda entry: len(entry[0]))
    size = max(1, ROWS // beams)
    batches = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    for batch in track(batches, f"{info.precision}, beams {beams}", console=Console(stderr=True)):
        for (_, pair), one in zip(batch, watcher.watch([ids for ids, _ in batch]), strict=True):
            yield NearTie(pair.id, info.precision, beams, one.gap, pair.text)


def measure(
    store: Path, name: str, data: str, precisions: Sequence[str], beams: Sequence[int], keep: int
) -> list[NearTie]:
    """The closest texts of `data` in each precision and with each number of beams, on one core."""
    torch.set_num_threads(1)
    pairs = list(mixed(read(data)))
    cases = []
    for precision in precisions:
        model = load(store, name, device="cpu", precision=precision)
        for width in beams:
            cases += near_ties(model, pairs, width, keep)
    return cases


def write(cases: Sequence[NearTie], path: Path) -> None:
    """As JSON lines, texts included: only where the texts may be passed on."""
    with path.open("w", encoding="utf-8") as lines:
        for case in cases:
            print(json.dumps(asdict(case), ensure_ascii=False), file=lines)


def read_cases(path: Path) -> list[NearTie]:
    """What `write` wrote."""
    return [NearTie(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]

"""The running batch: encode those who join, step every live row once, let those who finished leave.

Owned by one lane. An exception out of here says nothing about whose fault it is, and leaves the decoder's state
unknown: the worker then drops the whole batch and finds out.

Where the device encodes beside the decoder, live rows step on meanwhile, and newcomers join when they are encoded.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from app.engine.job import Decoded, Task
from app.engine.scheduler import passes
from app.engine.trail import AttentionTrail, keep, top_sources
from app.models.base import USUAL_ATTENTION, AttentionOptions, Candidates, Memory, Seq2SeqModel, StepOutput
from app.numerals import Numerals, SourceNumbers
from app.search import Ask, BeamSearch, ForcedDecoding, Found, GreedySearch, Search, Written, select

ENCODE_SECONDS = 0.1
OUT_OF_MEMORY = torch.OutOfMemoryError, MemoryError
Newcomer = tuple[Task, Sequence[int]]  # with its rows
Sources = tuple[tuple[int, float], ...]  # source token, weight; largest first
# What the task of this number came to: its outcome, or None when the model failed on this task alone.
Outcome = tuple[int, Decoded | None]


@dataclass(frozen=True, slots=True)
class Order:
    """What comes before the next step: who joins, each with its rows, and who leaves, by their numbers."""

    newcomers: Sequence[Newcomer] = ()
    dropped: Sequence[int] = ()

    def __bool__(self) -> bool:
        return bool(self.newcomers or self.dropped)


@dataclass(slots=True)
class Report:
    """What a batch did. Times in seconds, moments on the clock of the engine."""

    outcomes: list[Outcome] = field(default_factory=list)
    first_tokens: list[tuple[int, float]] = field(default_factory=list)  # number of the task, moment
    encodings: list[tuple[int, int, float]] = field(default_factory=list)  # source tokens, with padding, seconds
    steps: list[tuple[int, float]] = field(default_factory=list)  # rows, seconds
    written: list[tuple[int, Written, Sources]] = field(default_factory=list)  # for tasks that tell their tokens

    @property
    def encoded_tokens(self) -> int:
        return sum(tokens for tokens, _, _ in self.encodings)

    @property
    def encode_seconds(self) -> float:
        return sum(seconds for _, _, seconds in self.encodings)


@dataclass(slots=True)
class _Running:
    task: Task
    slots: Sequence[int]
    search: Search
    trail: AttentionTrail | None
    joined: float
    encode_seconds: float
    stepped: bool = False


@dataclass(frozen=True, slots=True)
class _Pass:
    """Tasks that are encoded together, since `began`; those that were dropped meanwhile have no memory any more."""

    tasks: Sequence[Task]
    slots: dict[int, Sequence[int]]
    memories: dict[int, Memory]
    began: float

    @property
    def ready(self) -> bool:
        return all(memory.ready for memory in self.memories.values())


class RunningBatch:
    """Live tasks, each in slots of its own."""

    def __init__(self, model: Seq2SeqModel, numerals: Numerals, capacity: int, clock: Callable[[], float]) -> None:
        self._model = model
        self._state = model.open(capacity)
        self._whole = model.info.attention.whole
        self._one_by_one = model.encodes_one_by_one
        self._numerals = numerals
        self._clock = clock
        self._coming: deque[Newcomer] = deque()  # who were told to join, and are not encoded yet
        self._arriving: deque[_Pass] = deque()
        self._running: dict[int, _Running] = {}  # by the number of the task
        self.report = Report()  # since it was last taken

    @property
    def idle(self) -> bool:
        return not (self._running or self._arriving or self._coming)

    def advance(self, order: Order) -> None:
        """Let go of whoever leaves, encode those who join, and advance every live row by one token.

        Sources that are encoded one by one anyway are so for `ENCODE_SECONDS` at most before others have their step.
        """
        for number in order.dropped:
            self.drop(number)
        self._coming.extend(order.newcomers)
        end = self._clock() + (ENCODE_SECONDS if self._one_by_one else math.inf)
        while self._coming and self._clock() < end:
            self.join([self._coming.popleft() for _ in range(1 if self._one_by_one else len(self._coming))])
        self.step()

    def take_report(self) -> Report:
        taken, self.report = self.report, Report()
        return taken

    def join(self, newcomers: Sequence[Newcomer]) -> None:
        """Encode these tasks and start decoding them. Those that cannot be encoded are over."""
        slots = {task.number: rows for task, rows in newcomers}
        for tasks in passes([task for task, _ in newcomers]):
            began = self._clock()
            memories = self._encode(tasks)
            self.report.outcomes += [(task.number, None) for task in tasks if task.number not in memories]
            self._arriving.append(_Pass(tasks, slots, memories, began))
            self._arrive()

    def step(self) -> None:
        """Advance every live row by one token. Tasks that are over leave."""
        self._arrive()
        if not self._running:
            return
        started = self._clock()
        rows: list[int] = []
        tokens: list[int] = []
        asks: list[Ask] = []
        live: list[tuple[_Running, slice]] = []  # with its part of these
        for one in self._running.values():
            written = one.search.written()
            live.append((one, slice(len(rows), len(rows) + len(written))))
            rows += one.slots[: len(written)]
            tokens += written
            asks += one.search.asks()
        self._advance(live, self._state.step(rows, tokens), asks)
        self.report.steps.append((len(rows), self._clock() - started))

    def drop(self, number: int) -> None:
        """Take a task out before it is over, if it is in."""
        running = self._running.pop(number, None)
        if running:
            self._state.leave(running.slots)
        for arriving in self._arriving:
            arriving.memories.pop(number, None)
        self._coming = deque(newcomer for newcomer in self._coming if newcomer[0].number != number)

    def clear(self) -> None:
        """Take all out."""
        self._coming.clear()
        self._arriving.clear()
        for number in list(self._running):
            self.drop(number)

    def _arrive(self) -> None:
        """Start decoding those who have been encoded by now; when nothing else is live, the next in any case."""
        while self._arriving and (self._arriving[0].ready or not self._running):
            self._start(self._arriving.popleft())

    def _start(self, arrived: _Pass) -> None:
        seconds = self._clock() - arrived.began
        for task in arrived.tasks:
            memory, slots = arrived.memories.get(task.number), arrived.slots[task.number]
            if memory is not None:
                self._state.join(slots, memory, self._looked_at(task))
                self._running[task.number] = self._started(task, slots, memory, arrived.began, seconds)
        lengths = [task.tokens for task in arrived.tasks]
        self.report.encodings.append((sum(lengths), self._model.positions(lengths), seconds))

    def _encode(self, tasks: Sequence[Task]) -> dict[int, Memory]:
        """The memories of all that can be encoded: together, or each on its own when the pass fails.

        Where there is no memory even for one that is no fault of its text: that is raised.
        """
        try:
            memories = self._model.encode([task.source for task in tasks], [task.given or () for task in tasks])
            return {task.number: memory for task, memory in zip(tasks, memories, strict=True)}
        except Exception as error:
            if len(tasks) == 1 and isinstance(error, OUT_OF_MEMORY):
                raise
            if len(tasks) == 1:
                return {}
        return {number: memory for one in tasks for number, memory in self._encode([one]).items()}

    def _advance(self, live: Sequence[tuple[_Running, slice]], output: StepOutput, asks: Sequence[Ask]) -> None:
        """Hand every search the answers for its own rows, and move rows to where their hypotheses went."""
        over: list[Outcome] = []
        moved: list[tuple[int, int]] = []  # (slot, the slot it continues from)
        streamed: list[tuple[int, Written, int]] = []  # with its row
        answers = select(output.log_probabilities, asks, output.normalizers)
        kept = keep(output) if any(one.trail for one, _ in live) else output
        for one, rows in live:
            own = answers[rows]
            if any(answer.broken for answer in own):
                over.append((one.task.number, None))
                continue
            opening = one.search.opening
            if one.trail and not opening:
                one.trail.record(kept, rows)
            parents = one.search.advance(own)
            if opening:
                continue
            moved += [(one.slots[row], one.slots[parent]) for row, parent in enumerate(parents) if row != parent]
            self._note_first_token(one)
            if one.search.found:
                over.append((one.task.number, self._decoded(one, one.search.found)))
            if one.task.tells and isinstance(one.search, GreedySearch):
                streamed.append((one.task.number, one.search.latest, rows.start))
        for number, _ in over:
            self.drop(number)
        if moved:
            self._state.reorder([slot for slot, _ in moved], [parent for _, parent in moved])
        self.report.outcomes += over
        if streamed:
            sources = top_sources(output.attention, [row for *_, row in streamed], whole=self._whole)
            self.report.written += [
                (number, token, own) for (number, token, _), own in zip(streamed, sources, strict=True)
            ]

    def _decoded(self, one: _Running, found: Found) -> Decoded | None:
        finished = self._clock()
        if one.trail is None:
            return Decoded(found, one.joined, one.encode_seconds, finished)
        try:
            followed = one.trail.follow(found.hypothesis)
        except ArithmeticError:
            return None
        return Decoded(found, one.joined, one.encode_seconds, finished, *followed)

    def _note_first_token(self, one: _Running) -> None:
        if one.stepped or one.task.given:
            return
        one.stepped = True
        self.report.first_tokens.append((one.task.number, self._clock()))

    def _started(
        self, task: Task, slots: Sequence[int], memory: Memory, joined: float, encode_seconds: float
    ) -> _Running:
        trail = AttentionTrail(task.source, whole=self._whole) if task.attention else None
        return _Running(task, slots, self._search(task, memory.candidates), trail, joined, encode_seconds)

    def _looked_at(self, task: Task) -> AttentionOptions | None:
        """Which of its attentions somebody will see."""
        wanted = task.attention or (USUAL_ATTENTION if task.tells else None)
        return wanted and self._model.info.attention.chosen(wanted)

    def _search(self, task: Task, candidates: Candidates) -> Search:
        options, special = task.options, self._model.info.special
        if task.given:
            return ForcedDecoding(task.given, special, candidates)
        numbers = SourceNumbers(self._numerals, task.context, task.part) if options.numbers_from_source else None
        search = GreedySearch if options.num_beams == 1 else BeamSearch
        return search(options, special, candidates, numbers)

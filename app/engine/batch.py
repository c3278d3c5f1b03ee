"""The running batch: encode those who join, step every live row once, let those who finished leave.

Owned by one thread. An exception out of here says nothing about whose fault it is, and leaves the decoder's state
unknown: the worker then drops the whole batch and finds out.

Where the device encodes beside the decoder, live rows step on meanwhile, and newcomers join when they are encoded.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.engine.job import Decoded, Job
from app.engine.observer import EngineObserver
from app.engine.request import WrittenToken
from app.engine.scheduler import passes
from app.engine.trail import AttentionTrail, keep, top_sources
from app.models.base import Candidates, Memory, Seq2SeqModel, StepOutput
from app.numerals import Numerals, SourceNumbers
from app.search import Ask, BeamSearch, ForcedDecoding, Found, GreedySearch, Search, Written, select

logger = logging.getLogger(__name__)

# What a job came to: its outcome, or None when the model failed on this job alone.
Outcome = tuple[Job, Decoded | None]


@dataclass(slots=True)
class _Running:
    job: Job
    slots: list[int]
    search: Search
    trail: AttentionTrail | None
    joined: float
    encode_seconds: float


@dataclass(frozen=True, slots=True)
class _Pass:
    """Jobs that are encoded together, since `began`; those that were dropped meanwhile have no memory any more."""

    jobs: Sequence[Job]
    slots: dict[Job, list[int]]
    memories: dict[Job, Memory]
    began: float

    @property
    def ready(self) -> bool:
        return all(memory.ready for memory in self.memories.values())


class RunningBatch:
    """Live jobs, each in slots of its own."""

    def __init__(
        self,
        model: Seq2SeqModel,
        numerals: Numerals,
        capacity: int,
        observer: EngineObserver,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._state = model.open(capacity)
        self._numerals = numerals
        self._observer = observer
        self._clock = clock
        self._arriving: deque[_Pass] = deque()
        self._running: dict[Job, _Running] = {}

    def join(self, newcomers: Sequence[tuple[Job, list[int]]]) -> list[Outcome]:
        """Encode these jobs and start decoding them. Returns those that cannot be encoded."""
        slots = dict(newcomers)
        failed: list[Outcome] = []
        for jobs in passes(list(slots)):
            began = self._clock()
            memories = self._encode(jobs)
            failed += [(job, None) for job in jobs if job not in memories]
            self._arriving.append(_Pass(jobs, slots, memories, began))
            self._arrive()
        return failed

    def step(self) -> list[Outcome]:
        """Advance every live row by one token. Returns the jobs that are over, which have left."""
        self._arrive()
        if not self._running:
            return []
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
        outcomes = self._advance(live, self._state.step(rows, tokens), asks)
        self._observer.stepped(len(rows), self._clock() - started)
        return outcomes

    def drop(self, job: Job) -> None:
        """Take a job out before it is over, if it is in."""
        running = self._running.pop(job, None)
        if running:
            self._state.leave(running.slots)
        for arriving in self._arriving:
            arriving.memories.pop(job, None)

    def _arrive(self) -> None:
        """Start decoding those who have been encoded by now; when nothing else is live, the next in any case."""
        while self._arriving and (self._arriving[0].ready or not self._running):
            self._start(self._arriving.popleft())

    def _start(self, arrived: _Pass) -> None:
        jobs, seconds = arrived.jobs, self._clock() - arrived.began
        for job, memory in arrived.memories.items():
            slots = arrived.slots[job]
            self._state.join(slots, memory)
            self._running[job] = self._started(job, slots, memory, arrived.began, seconds)
        lengths = [job.tokens for job in jobs]
        self._observer.encoded(sum(lengths), self._model.positions(lengths), seconds)

    def _encode(self, jobs: Sequence[Job]) -> dict[Job, Memory]:
        """The memories of all that can be encoded: together, or each on its own when the pass fails."""
        try:
            given = [job.given.ids if job.given else () for job in jobs]
            return dict(zip(jobs, self._model.encode([job.source for job in jobs], given), strict=True))
        except Exception:
            if len(jobs) == 1:
                return {}
            return {job: memory for one in jobs for job, memory in self._encode([one]).items()}

    def _advance(
        self, live: Sequence[tuple[_Running, slice]], output: StepOutput, asks: Sequence[Ask]
    ) -> list[Outcome]:
        """Hand every search the answers for its own rows, and move rows to where their hypotheses went."""
        over: list[Outcome] = []
        moved: list[tuple[int, int]] = []  # (slot, the slot it continues from)
        streamed: list[tuple[Job, Written, int]] = []  # with its row
        answers = select(output.log_probabilities, asks)
        kept = keep(output) if any(one.trail for one, _ in live) else output
        for one, rows in live:
            own = answers[rows]
            if any(answer.broken for answer in own):
                over.append((one.job, None))
                continue
            if one.trail:
                one.trail.record(kept, rows)
            parents = one.search.advance(own)
            moved += [(one.slots[row], one.slots[parent]) for row, parent in enumerate(parents) if row != parent]
            self._tell_first_token(one.job)
            if one.search.found:
                over.append((one.job, self._decoded(one, one.search.found)))
            if isinstance(one.search, GreedySearch) and one.job.ticket.plan.request.on_token:
                streamed.append((one.job, one.search.latest, rows.start))
        if streamed:
            _tell_tokens(streamed, output)
        for job, _ in over:
            self.drop(job)
        if moved:
            self._state.reorder([slot for slot, _ in moved], [parent for _, parent in moved])
        return over

    def _decoded(self, one: _Running, found: Found) -> Decoded | None:
        finished = self._clock()
        if one.trail is None:
            return Decoded(found, one.joined, one.encode_seconds, finished)
        try:
            weights, copied = one.trail.follow(found.hypothesis)
        except ArithmeticError:
            return None
        return Decoded(found, one.joined, one.encode_seconds, finished, weights, copied)

    def _tell_first_token(self, job: Job) -> None:
        ticket = job.ticket
        if ticket.first_token_seen or job.given:
            return
        ticket.first_token_seen = True
        self._observer.first_token(self._clock() - ticket.submitted)

    def _started(self, job: Job, slots: list[int], memory: Memory, joined: float, encode_seconds: float) -> _Running:
        trail = AttentionTrail(job.source) if job.ticket.plan.request.attention else None
        return _Running(job, slots, self._search(job, memory.candidates), trail, joined, encode_seconds)

    def _search(self, job: Job, candidates: Candidates) -> Search:
        options, special = job.ticket.plan.request.options, self._model.info.special
        if job.given:
            return ForcedDecoding(job.given.ids, special, candidates)
        plan = job.ticket.plan
        numbers = SourceNumbers(self._numerals, plan.source.ids, job.part) if options.numbers_from_source else None
        search = GreedySearch if options.num_beams == 1 else BeamSearch
        return search(options, special, candidates, numbers)


def _tell_tokens(streamed: Sequence[tuple[Job, Written, int]], output: StepOutput) -> None:
    every = top_sources(output.attention, [row for _, _, row in streamed])
    for (job, written, _), sources in zip(streamed, every, strict=True):
        plan = job.ticket.plan
        assert plan.request.on_token is not None
        part = plan.parts.index(job.part)
        token = WrittenToken(part, written.place, written.token, written.log_probability, sources, written.kept)
        try:
            plan.request.on_token(token)
        except Exception as error:  # a listener's failure is not the batch's
            logger.error("a token could not be told: %s", type(error).__name__)

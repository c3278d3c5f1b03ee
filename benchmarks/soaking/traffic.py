"""Asks, and judges every answer by the one that was given to the same question while nobody disturbed the service."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.load import arrivals
from benchmarks.soaking import answers
from benchmarks.soaking.ledger import OVERLOADED, Ledger, Metrics
from benchmarks.soaking.questions import WEIGHTS, Case, Question, get
from benchmarks.soaking.wire import Answer, Caller, Manner

MOST_TEXTS = 128  # asked for at once, between bursts: fewer than the queue takes
MOST_SLOW = 16  # callers at once
Tell = Callable[[str, str], None]

READY = ("/readyz", "/health")
ALWAYS = ("/livez", *READY, "/metrics")  # answered in any overload
GAUGES = ("precis_queue_texts", "precis_live_rows")
RESTING_SECONDS = 30.0
RECOVERY_SECONDS = 3.0  # after a burst, until nobody is refused
MOST_REFUSED = 0.01  # of all, between bursts: the machine may have other things to do
# Of those who ask for a summary.
MANNERS = {
    Manner.PLAIN: 80,
    Manner.SLOW_SENDER: 3,
    Manner.SLOW_READER: 3,
    Manner.LEAVES_IN_HEAD: 2,
    Manner.LEAVES_IN_BODY: 3,
    Manner.LEAVES_WAITING: 6,
    Manner.LEAVES_READING: 3,
}
METRICS, MODELS = get("metrics", "/metrics"), get("models", "/models")


class Traffic:
    """`tell` hears of everything that is wrong: words, and the id of the request, or nothing."""

    def __init__(self, url: str, questions: Sequence[Question], source: random.Random, tell: Tell) -> None:
        self.questions = questions
        self.ledger = Ledger()
        self.counts: Counter[tuple[str, int | str]] = Counter()  # by kind; status, or manner of leaving
        self.held_back = self.refused_between = 0
        self.digests: set[str] = set()  # of the checkpoints that may answer; of any, where there are none
        self.repairing_until = 0.0  # a worker is being replaced: the service need not be ready
        self._caller = Caller(url, source)
        self._random = source
        self._tell = tell
        self._references: dict[Question, object] = {}
        self._numbers = itertools.count()
        self._texts = self._slow = 0
        self._bursts = 0
        self._burst_ended = float("-inf")
        self._by_kind = {kind: [each for each in questions if each.kind == kind] for kind in WEIGHTS}

    @property
    def answered(self) -> int:
        return sum(self.ledger.answered.values())

    # --- what is asked when ---

    async def prepare(self) -> None:
        """Every question once, one after the other, and its answer looked into."""
        known: dict[Case, dict[str, Any]] = {}
        for question in self.questions:
            if question.patient is not None:
                self._references[question] = self._references.get(question.patient)
                continue
            answer = await self.ask(question)
            if answer is None or answer.status != question.status:
                continue
            for wrong in answers.broken(question, answer, known):
                self._tell(f"{question}: {wrong}", answer.headers.get("x-request-id", ""))
            if question.kind in ("greedy", "beams", "chunk") and question.cases[0] not in known:
                known[question.cases[0]] = answers.summary_of(answer)

    async def closed_loop(self, clients: int, seconds: float) -> float:
        """Answers a second to so many clients with good manners, at the most that the service can do."""
        before, started = self.answered, time.monotonic()

        async def client() -> None:
            while time.monotonic() < started + seconds:
                await self.ask(self._any())

        await asyncio.gather(*(client() for _ in range(clients)))
        return (self.answered - before) / (time.monotonic() - started)

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Questions at random moments, in all manners, until they are all answered."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for moment in arrivals(rate, seconds, self._random.randrange(1 << 30)):
                await asyncio.sleep(max(0.0, started + moment - time.monotonic()))
                question, manner = self._any(), self._manner()
                if self._texts + question.texts > MOST_TEXTS or (manner.slow and self._slow >= MOST_SLOW):
                    self.held_back += 1
                else:
                    group.create_task(self.ask(question, manner))

    async def burst(self, questions: Sequence[Question]) -> None:
        """All at once."""
        self._bursts += 1
        try:
            await asyncio.gather(*(self.ask(question) for question in questions))
        finally:
            self._bursts -= 1
            self._burst_ended = time.monotonic()

    async def again(self, clients: int) -> None:
        """Every question once more, by so many at a time."""
        waiting = iter(self.questions)

        async def client() -> None:
            for question in waiting:
                await self.ask(question)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def metrics(self) -> Metrics:
        answer = await self.ask(METRICS)
        if answer is None:
            raise ConnectionError("the service does not tell its metrics")
        return Metrics(answer.body.decode())

    async def served(self) -> set[str]:
        """The digests of the checkpoints that are served now."""
        answer = await self.ask(MODELS)
        return answers.digests(answers.parsed(answer)) if answer and answer.status == 200 else set()

    async def come_to_rest(self, before: Metrics) -> None:
        """Nobody asks any more: nothing waits, nothing is live, and all is counted; or that is told as wrong."""
        end = time.monotonic() + RESTING_SECONDS
        while True:
            mine = self.ledger.copy()
            now = await self.metrics()
            wrong = list(mine.differences(now.requests_since(before)))
            wrong += [f"{name} is {now.total(name):g} when nobody asks" for name in GAUGES if now.total(name)]
            if not wrong or time.monotonic() > end:
                break
            await asyncio.sleep(0.2)
        if self.refused_between > MOST_REFUSED * self.answered:
            wrong.append(f"{self.refused_between} of {self.answered} requests were refused between bursts")
        for each in wrong:
            self._tell(each, "")

    def close(self) -> None:
        self._caller.close()

    # --- one question ---

    async def ask(self, question: Question, manner: Manner = Manner.PLAIN) -> Answer | None:
        """The answer, judged and counted; None where there is none."""
        if manner is Manner.LEAVES_IN_BODY and len(question.body) < 2:
            manner = Manner.PLAIN
        number, sent = f"soak-{next(self._numbers)}", time.monotonic()
        self._texts += question.texts
        self._slow += manner.slow
        try:
            answer = await self._caller.exchange(question.message(self._caller.host, number), manner)
        except (OSError, EOFError, ValueError) as error:  # a TimeoutError is an OSError
            self._tell(f"{question}, {manner.value}: no answer ({type(error).__name__})", number)
            self.ledger.left[question.route] += 1
            return None
        finally:
            self._texts -= question.texts
            self._slow -= manner.slow
        if answer is None:
            self.ledger.left[question.route] += manner is not Manner.LEAVES_IN_HEAD
            self.counts[question.kind, manner.value] += 1
            return None
        self.ledger.answered[question.route, answer.status] += 1
        self.counts[question.kind, answer.status] += 1
        for wrong in self._wrong(question, answer, number, sent):
            self._tell(f"{question}, {manner.value}: {wrong}", number)
        return answer

    def _wrong(self, question: Question, answer: Answer, number: str, sent: float) -> list[str]:
        try:
            content = answers.parsed(answer)
        except ValueError as error:
            return [f"it cannot be read: {error}"]
        wrong = list(answers.envelope(question, answer, content, number))
        if answer.status != question.status:
            return wrong if self._may_be(question, answer.status, sent) else [*wrong, f"status {answer.status}"]
        if self.digests and answers.digests(content) - self.digests:
            wrong.append("an answer of a checkpoint that is not served any more, or not yet")
        found = answers.fixed(answer, content)
        expected = self._references.setdefault(question, found)
        if found != expected:
            wrong.append(f"another answer than at the start, {answers.difference(found, expected)}")
        return wrong

    def _may_be(self, question: Question, status: int, sent: float) -> bool:
        """Whether a refusal is right at this moment. Those for overload are counted where there should be none."""
        if status in question.refusals:
            return True
        if question.path in ALWAYS or status != OVERLOADED:
            return status == OVERLOADED and question.path in READY and sent < self.repairing_until
        self.refused_between += self._bursts == 0 and sent > self._burst_ended + RECOVERY_SECONDS
        return True

    def _any(self) -> Question:
        (kind,) = self._random.choices(list(WEIGHTS), [*WEIGHTS.values()])
        return self._random.choice(self._by_kind[kind])

    def _manner(self) -> Manner:
        (manner,) = self._random.choices(list(MANNERS), [*MANNERS.values()])
        return manner

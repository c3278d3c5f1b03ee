"""For a long time everything at once: all kinds of requests, callers who leave or stall, bursts, faults and reloads.

Every answer is compared with the one that was given at the start, while nobody disturbed the service. What it holds
(memory, files, threads, processes) and how long it takes to answer must not grow. Bursts, faults and reloads come at
random moments; in between some 70 % of what the service can do is asked for.
"""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.processes import catches, family, lanes
from benchmarks.report import Record, Results, say, table
from benchmarks.soaking.curve import draw
from benchmarks.soaking.deploying import Store
from benchmarks.soaking.disturbances import disturb_a_lane, now_and_then
from benchmarks.soaking.judging import judge
from benchmarks.soaking.ledger import Metrics
from benchmarks.soaking.questions import CHINESE, ENGLISH, burst, catalogue
from benchmarks.soaking.traffic import Traffic
from benchmarks.soaking.trends import Trend
from benchmarks.systems import Server, System, running

# The queue is small, so that a burst is short, but takes what is asked for at once between bursts. Deadlines are missed
# only by those who ask for short ones, however busy the machine is.
MAX_QUEUE = 256
SETTINGS = {"PRECIS_MAX_QUEUE": str(MAX_QUEUE), "PRECIS_TIMEOUT_MS": "600000"}
CLIENTS = 16
REPAIR_SECONDS = 60.0
LOAD_SECONDS = 60.0
RELOAD_SECONDS = 120.0
MOST_ALIKE, MOST_TOLD = 3, 1000  # of what is wrong
IN_THE_LOG = ("unforeseen", "Traceback")


@dataclass(frozen=True, slots=True)
class Plan:
    """Times but the first are seconds; those between bursts, faults and reloads are means."""

    seed: int
    minutes: float = 30.0
    faults: bool = True
    reloads: bool = True
    share: float = 0.7  # of the maximum
    texts: int = 24
    calibration: float = 10.0
    sample: float = 5.0
    burst_texts: int = 3 * MAX_QUEUE
    bursts_every: float = 45.0
    faults_every: float = 60.0
    reloads_every: float = 240.0


@dataclass(slots=True)
class Journal:
    """What happened, in records that are kept at once; and all that was wrong, by words."""

    kept: Results
    started: float = field(default_factory=time.monotonic)
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def second(self) -> float:
        return time.monotonic() - self.started

    def note(self, what: str, **facts: Any) -> None:
        self.kept.add({"what": what, "second": round(self.second, 2), **facts})

    def complain(self, words: str, request_id: str = "") -> None:
        self.wrong[words] += 1
        if self.wrong[words] <= MOST_ALIKE and self.wrong.total() <= MOST_TOLD:
            self.note("wrong", words=words, request_id=request_id)
            say(f"WRONG: {words} {request_id}".rstrip())

    def read(self, what: str) -> list[Record]:
        return [record for record in self.kept.read() if record["what"] == what]


def measure(plan: Plan, system: System, folder: Path) -> tuple[str, bool]:
    """The report, and whether all was well. Whatever ends the run, what was recorded until then is there."""
    journal, log = Journal(Results(folder, "soak", ("what",))), folder / "soak.log"
    journal.kept.forget(lambda _: True)
    log.unlink(missing_ok=True)
    say(f"seed {plan.seed}")
    journal.note("plan", **asdict(plan))
    with tempfile.TemporaryDirectory() as ours:
        store = Store(Path(ours), Path(system.store), (ENGLISH, CHINESE))
        with running(replace(system, store=ours), SETTINGS, log) as server:
            _wait_for_models(server.url)
            try:
                asyncio.run(_Run(plan, server, store, journal).run())
            except* (OSError, EOFError) as broken:  # the service is gone, or has nothing to say any more
                journal.complain(f"the run broke off: {broken.exceptions}")
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if any(word in line for word in IN_THE_LOG):
            journal.complain(f"in the log: {line[:200]}")
    trends = judge(journal.read("sample"))
    for each in trends:
        if each.grew:
            journal.complain(f"{each.name}: grew by {each.growth:.1f} in {each.seconds:.0f} s, over {each.most:.1f}")
    return _report(journal, trends), not journal.wrong


def _wait_for_models(url: str) -> None:
    """The default one is served first."""
    end = time.monotonic() + LOAD_SECONDS
    while {ENGLISH, CHINESE} - {model["name"] for model in httpx2.get(f"{url}/models", timeout=60.0).json()["models"]}:
        if time.monotonic() > end:
            raise RuntimeError(f"{ENGLISH} and {CHINESE} are not both served")
        time.sleep(0.1)


class _Run:
    def __init__(self, plan: Plan, server: Server, store: Store, journal: Journal) -> None:
        self._plan, self._server, self._store, self._journal = plan, server, store, journal
        source = random.Random(plan.seed)
        self._questions = catalogue(plan.texts, source)
        self._traffic = Traffic(server.url, self._questions, source, journal.complain)
        self._random = random.Random(source.random())  # the disturbances' own
        self._probe = next(each for each in self._questions if each.kind == "greedy" and each.cases[0].model == ENGLISH)
        self._happened: Counter[str] = Counter()
        self._minutes = 0

    async def run(self) -> None:
        plan, traffic, journal = self._plan, self._traffic, self._journal
        before = await traffic.metrics()
        await traffic.prepare()
        say(f"{len(self._questions)} questions were answered while nobody disturbed the service")
        most = await traffic.closed_loop(CLIENTS, plan.calibration)
        say(f"it answers {most:.0f} requests/s; {plan.share * most:.0f}/s are asked for")
        journal.started = time.monotonic()
        journal.note("load", most=most, rate=plan.share * most)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(over))
            for mean_seconds, act in self._disturbances():
                group.create_task(now_and_then(mean_seconds, self._random, over, act))
            await traffic.open_loop(plan.share * most, 60 * plan.minutes)
            over.set()
        await traffic.again(CLIENTS)
        await traffic.come_to_rest(before)
        await self._count(before)
        traffic.close()

    # --- disturbances ---

    def _disturbances(self) -> Iterator[tuple[float, Callable[[], Awaitable[None]]]]:
        yield self._plan.bursts_every, self._burst
        if self._plan.faults:
            yield self._plan.faults_every, self._fault
        if self._plan.reloads:
            yield self._plan.reloads_every, self._reload

    async def _burst(self) -> None:
        self._note("burst")
        await self._traffic.burst(burst(self._questions, self._plan.burst_texts, self._random))

    async def _fault(self) -> None:
        self._traffic.repairing_until = time.monotonic() + REPAIR_SECONDS
        self._note(await disturb_a_lane(self._server.pid, self._random))

    async def _reload(self) -> None:
        """Another checkpoint with the same answers, until it is served: meanwhile the old one may answer, too."""
        if not catches(self._server.pid, signal.SIGHUP):  # it would be its end
            self._note("no reload: SIGHUP is not caught")
            return
        old = self._store.digests
        await asyncio.to_thread(self._store.deploy)
        new = self._store.digests
        self._traffic.digests = old | new
        os.kill(self._server.pid, signal.SIGHUP)
        self._note("reload")
        end = time.monotonic() + RELOAD_SECONDS
        while await self._traffic.served() != new:
            if time.monotonic() > end:
                self._journal.complain(f"a new checkpoint is not served after {RELOAD_SECONDS:g} s")
                return
            await asyncio.sleep(0.5)

    def _note(self, event: str) -> None:
        self._happened[event] += 1
        self._journal.note("event", event=event)

    # --- samples ---

    async def _watch(self, over: asyncio.Event) -> None:
        """Raises OSError when the service is gone."""
        while not over.is_set():
            try:
                await asyncio.wait_for(over.wait(), self._plan.sample)
            except TimeoutError:
                await self._sample()

    async def _sample(self) -> None:
        started = time.monotonic()
        probed = await self._traffic.ask(self._probe)
        latency = 1000 * (time.monotonic() - started) if probed and probed.status == 200 else None
        metrics = await self._traffic.metrics()
        sample = await asyncio.to_thread(self._held, latency, metrics)
        if self._journal.second >= 60 * (self._minutes + 1):
            self._minutes += 1
            say(f"minute {self._minutes}: {_line(sample)}, {self._journal.wrong.total()} wrong")

    def _held(self, latency: float | None, metrics: Metrics) -> Record:
        processes, decoding = family(self._server.pid), lanes(self._server.pid)
        sample: Record = {
            "latency_ms": latency,
            "service_mib": processes[0].mib,
            "lanes_mib": {str(each.pid): each.mib for each in processes if each.pid in decoding},
            "mib": sum(each.mib for each in processes),
            "files": sum(each.files for each in processes),
            "threads": sum(each.threads for each in processes),
            "processes": len(processes),
            "queue_texts": metrics.total("precis_queue_texts"),
            "live_rows": metrics.total("precis_live_rows"),
            "answers": self._traffic.answered,
            "held_back": self._traffic.held_back,
        }
        self._journal.note("sample", **sample)
        return sample

    # --- the end ---

    async def _count(self, before: Metrics) -> None:
        """Of its own troubles the service counts none but those that were made."""
        after, traffic = await self._traffic.metrics(), self._traffic
        restarts, cancelled = (
            after.total(name) - before.total(name)
            for name in ("precis_worker_restarts_total", "precis_cancelled_total")
        )
        if restarts and not self._happened["lane killed"]:
            self._journal.complain(f"{restarts:g} workers were replaced, and none was killed")
        if failed := after.total("precis_reloads_total", outcome="failed"):
            self._journal.complain(f"{failed:g} reloads failed")
        outcomes: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(traffic.counts.items(), key=str):
            outcomes.setdefault(kind, {})[str(outcome)] = count
        told = {
            "worker replaced": restarts,
            "text given up": cancelled,
            "request held back, for many were out": traffic.held_back,
            "request refused between bursts": traffic.refused_between,
        }
        self._happened.update({name: int(count) for name, count in told.items()})
        self._journal.note("counts", outcomes=outcomes, happened=self._happened)


def _line(sample: Record) -> str:
    latency = "refused" if sample["latency_ms"] is None else f"{sample['latency_ms']:.0f} ms"
    return (
        f"{sample['answers']} answers, {sample['mib']:.0f} MiB in {sample['processes']} processes, "
        f"{sample['files']} files, {sample['threads']} threads, probe {latency}"
    )


def _report(journal: Journal, trends: Sequence[Trend]) -> str:
    draw(journal.kept.folder / "soak.png", journal.read("sample"), journal.read("event"))
    (plan,) = journal.read("plan")
    told = [f"- {count} times {words}" for words, count in journal.wrong.most_common(MOST_TOLD)]
    counts = [
        table(("what", "times"), record["happened"].items())
        + "\n\n"
        + table(("requests", "how they ended"), [(kind, _joined(ends)) for kind, ends in record["outcomes"].items()])
        for record in journal.read("counts")
    ]
    parts = [
        f"Seed {plan['seed']}, {plan['minutes']:g} minutes. **{journal.wrong.total() or 'Nothing'} wrong.**",
        *(["\n".join(told)] if told else []),
        "Growth: the slope of Theil and Sen over the last two thirds, times the seconds; of one lane, over a life.",
        table(("what", "median", "growth", "at most", "seconds", "verdict"), map(_row, trends)),
        "![What was held](soak.png)",
        *counts,
    ]
    return journal.kept.write(parts)


def _row(each: Trend) -> tuple[str, ...]:
    if each.growth is None:
        return each.name, f"{each.median:.1f}", "-", f"{each.most:.1f}", f"{each.seconds:.0f}", "too few samples"
    verdict = "GREW" if each.grew else "flat"
    return each.name, f"{each.median:.1f}", f"{each.growth:+.2f}", f"{each.most:.1f}", f"{each.seconds:.0f}", verdict


def _joined(ends: dict[str, int]) -> str:
    return ", ".join(f"{count} {end}" for end, count in ends.items())

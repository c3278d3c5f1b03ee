"""Stops and reloads under load: what becomes of every single request.

Clients ask in a closed loop, half of them over a connection that is kept, half over a new one each time. A request
that was sent before the signal must be answered: with its summary, or with an honest refusal that admitted nothing.
Of one that was sent later, and not answered, the service's log must know nothing.
"""

import asyncio
import itertools
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.models.checkpoint import MANIFEST, publish
from benchmarks.asking import PATIENCE, REFUSED, UNANSWERED, Asked, Clients
from benchmarks.processes import resident_mib
from benchmarks.report import Results, say, table
from benchmarks.systems import Server, System, descendants, running
from benchmarks.texts import mixed_texts

TEXTS = 400
LOGGED = {"PRECIS_LOG_LEVEL": "info", "PRECIS_LOG_FORMAT": "json"}


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop: the requests, the seconds from the signal to the end of the process, and how it ended."""

    asked: Sequence[Asked]
    signalled: float
    seconds: float
    status: int
    logged: set[str]  # requests that the service knows of
    left_over: int  # processes

    @property
    def kinds(self) -> Counter[str]:
        return Counter(each.kind for each in self.asked)

    @property
    def lost(self) -> int:
        """Never answered, though they were sent before the signal, or the service knows of them."""
        unanswered = (each for each in self.asked if each.kind == UNANSWERED)
        return sum(each.sent < self.signalled or each.name in self.logged for each in unanswered)


def stop_under_load(system: System, bodies: Sequence[bytes], clients: int, seconds: float, folder: Path) -> Stop:
    """A service of its own, asked for so long, then stopped by SIGTERM."""
    log = folder / "stop.log"
    log.unlink(missing_ok=True)
    with running(system, LOGGED, log) as server:
        family = descendants(server.pid)
        asking = Clients(server.url, bodies, clients)

        async def stop() -> tuple[float, float, int]:
            running_clients = asyncio.create_task(asking.run())
            await asyncio.sleep(seconds)
            signalled = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            status = await asyncio.to_thread(_ended, server.pid)
            took = time.monotonic() - signalled
            await running_clients
            return signalled, took, status

        signalled, took, status = asyncio.run(stop())
        left_over = len(still_there(family))
    return Stop(asking.asked, signalled, took, status, _logged(log), left_over)


def _ended(pid: int) -> int:
    """The exit status of a child, which stays there for whoever started it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return found.si_status
        time.sleep(0.002)
    raise TimeoutError(f"the service did not end within {PATIENCE:g} s")


def still_there(family: dict[int, str]) -> set[int]:
    """Processes of this family that are not gone a moment after their service."""
    end = time.monotonic() + 10.0
    while (left := {pid for pid in family if _runs(pid)}) and time.monotonic() < end:
        time.sleep(0.01)
    return left


def _runs(pid: int) -> bool:
    """Not one that has ended and whom nobody has asked how."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _logged(log: Path) -> set[str]:
    return {line["request_id"] for line in _lines(log) if line["event"] == "request"}


def _lines(log: Path) -> list[dict[str, Any]]:
    """Those that are complete."""
    whole = [line for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole if line.startswith("{")]


@dataclass(frozen=True, slots=True)
class Reload:
    """One reload: what the log says of it, and between which moments it ran."""

    line: dict[str, Any]
    began: float
    ended: float

    @property
    def outcome(self) -> str:
        return str(self.line["event"]).removeprefix("reload ")


@dataclass(frozen=True, slots=True)
class Reloads:
    asked: Sequence[Asked]
    reloads: Sequence[Reload]
    memory: tuple[float, float]  # MiB of all its processes, before the first and after the last
    processes: tuple[int, int]

    @property
    def failed(self) -> int:
        return sum(each.kind != "200" for each in self.asked)

    def latencies(self, *, reloading: bool) -> list[float]:
        """In ms, of requests that began while a reload ran, or of the others."""
        return [
            1000 * (each.ended - each.sent)
            for each in self.asked
            if any(reload.began <= each.sent <= reload.ended for reload in self.reloads) == reloading
        ]


Deploy = Callable[[Path], None]  # puts something into the place of this checkpoint


def new_card(target: Path) -> None:
    """Another digest, and the same answers."""
    with _draft(target) as draft:
        (draft / "README.md").write_text(f"# {uuid.uuid4().hex}\n", encoding="utf-8")


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A copy beside it, to be published."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.copytree(target, draft)
    yield draft
    publish(draft, target)


def _spoilt(target: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (target / name).write_bytes(change((target / name).read_bytes()))


def flipped_bit(target: Path) -> None:
    _spoilt(target, "model.safetensors", lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


def truncated(target: Path) -> None:
    _spoilt(target, "model.safetensors", lambda content: content[: len(content) // 2])


def no_manifest(target: Path) -> None:
    _spoilt(target, MANIFEST, lambda content: content[:-20])


def wrong_sizes(target: Path) -> None:
    """As its manifest says; but it does not fit together."""
    with _draft(target) as draft:
        config = json.loads((draft / "config.json").read_text(encoding="utf-8"))
        config["network"]["decoder_size"] += 32
        (draft / "config.json").write_text(json.dumps(config), encoding="utf-8")


def no_vocabulary(target: Path) -> None:
    with _draft(target) as draft:
        (draft / "tokenizer.json").write_text("{}", encoding="utf-8")


CORRUPT: tuple[Deploy, ...] = (flipped_bit, truncated, no_manifest, wrong_sizes, no_vocabulary)


def reload_under_load(
    system: System, bodies: Sequence[bytes], clients: int, deploys: Sequence[Deploy], pause: float, folder: Path
) -> Reloads:
    """One service on a copy of its checkpoint, asked all the time; each of these put there, then SIGHUP."""
    store = folder / "store"
    target = store / system.model
    shutil.copytree(system.folder, target)
    log = folder / "reload.log"
    with running(System("precis", system.precision, str(store), system.model), LOGGED, log) as server:
        asking, reloads = Clients(server.url, bodies, clients), list[Reload]()
        sound = folder / "sound"

        async def work() -> tuple[float, int]:
            running_clients = asyncio.create_task(asking.run())
            await asyncio.sleep(pause)
            before = resident_mib(server.pid), len(descendants(server.pid))
            for deploy in deploys:
                shutil.copytree(target, sound)
                await asyncio.to_thread(deploy, target)
                reloads.append(await _reloaded(server, log))
                if reloads[-1].outcome == "failed":  # what is deployed next grows from what is sound
                    shutil.rmtree(target)
                    sound.rename(target)
                else:
                    shutil.rmtree(sound)
                await asyncio.sleep(pause)
            asking.over = True
            await running_clients
            return before

        memory, processes = asyncio.run(work())
        after = resident_mib(server.pid), len(descendants(server.pid))
    return Reloads(asking.asked, reloads, (memory, after[0]), (processes, after[1]))


async def _reloaded(server: Server, log: Path) -> Reload:
    """SIGHUP, until the log tells what came of it and the old checkpoint has gone."""
    known, began = len(_ends(log)), time.monotonic()
    os.kill(server.pid, signal.SIGHUP)
    while len(ends := _ends(log)) == known:
        await _moment(began)
    if ends[-1]["event"] == "reload changed":
        gone = sum(line["event"] == "reload changed" for line in ends)
        while sum(line["event"] == "model unloaded" for line in _lines(log)) < gone:
            await _moment(began)
    return Reload(ends[-1], began, time.monotonic())


def _ends(log: Path) -> list[dict[str, Any]]:
    return [line for line in _lines(log) if re.match("reload (changed|unchanged|failed)$", line["event"])]


async def _moment(began: float) -> None:
    if time.monotonic() - began > PATIENCE:
        raise TimeoutError(f"a reload was not over after {PATIENCE:g} s")
    await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Plan:
    """So many stops, and reloads of which every fourth is to a corrupt checkpoint, `seconds` apart on average."""

    stops: int = 50
    reloads: int = 20
    clients: int = 32
    seconds: float = 1.5


def deploys(count: int) -> list[Deploy]:
    """Every fourth one is corrupt, each in another way."""
    corrupt = itertools.cycle(CORRUPT)
    return [next(corrupt) if number % 4 == 3 else new_card for number in range(count)]


def measure(precision: str, plan: Plan, output: Path) -> str:
    """Stops, each of a service of its own, and then reloads of one."""
    kept = Results(output, "restarts", ("what", "number"))
    kept.forget(lambda _: True)
    system, bodies = System("precis", precision), [System("precis", precision).body(t, 1) for t in mixed_texts(TEXTS)]
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(plan.stops):
            seconds = moments.uniform(0.5, 1.5) * plan.seconds
            stop = stop_under_load(system, bodies, plan.clients, seconds, Path(folder))
            kept.add({"what": "stop", "number": number, **_of_stop(stop)})
            say(f"stop {number}: {dict(stop.kinds)}, {stop.lost} lost, {stop.seconds:.2f} s, status {stop.status}")
        reloads = reload_under_load(system, bodies, plan.clients, deploys(plan.reloads), plan.seconds, Path(folder))
    kept.add({"what": "reloads", "number": len(reloads.reloads), **_of_reloads(reloads)})
    return _report(kept, plan)


def _of_stop(stop: Stop) -> dict[str, Any]:
    return {
        "kinds": dict(stop.kinds),
        "lost": stop.lost,
        "seconds": stop.seconds,
        "status": stop.status,
        "left_over": stop.left_over,
    }


def _of_reloads(reloads: Reloads) -> dict[str, Any]:
    taken = [each.line["seconds"] for each in reloads.reloads if each.outcome == "changed"]
    return {
        "answers": len(reloads.asked),
        "failed": reloads.failed,
        "outcomes": dict(Counter(each.outcome for each in reloads.reloads)),
        "reasons": [each.line["reason"] for each in reloads.reloads if each.outcome == "failed"],
        "digests": dict(Counter(each.digest for each in reloads.asked if each.digest)),
        "seconds": [*_percentiles(taken, 50), max(taken, default=0.0)],
        "calm": _percentiles(reloads.latencies(reloading=False), 50, 99),
        "reloading": _percentiles(reloads.latencies(reloading=True), 50, 99),
        "memory": reloads.memory,
        "processes": reloads.processes,
    }


def _percentiles(values: Sequence[float], *shares: int) -> list[float]:
    found: list[float] = np.percentile(values, shares).tolist() if values else [0.0 for _ in shares]
    return found


def _report(kept: Results, plan: Plan) -> str:
    stops = [record for record in kept.read() if record["what"] == "stop"]
    (reloads,) = (record for record in kept.read() if record["what"] == "reloads")
    kinds: Counter[str] = Counter()
    for stop in stops:
        kinds.update(stop["kinds"])
    seconds = [stop["seconds"] for stop in stops] or [0.0]
    rows: list[tuple[object, object]] = [(f"answered {kind}", count) for kind, count in sorted(kinds.items())]
    rows += [
        ("admitted, or sent before the signal, and lost", sum(stop["lost"] for stop in stops)),
        ("ended with another status than 0", sum(stop["status"] != 0 for stop in stops)),
        ("processes left over", sum(stop["left_over"] for stop in stops)),
        (
            "seconds from signal to end, median; longest",
            f"{np.median(seconds or [0]):.2f}; {max(seconds, default=0):.2f}",
        ),
    ]
    first = table((f"{len(stops)} SIGTERMs, {plan.clients} clients", "requests"), rows)
    calm, during = ("; ".join(f"{value:.0f}" for value in reloads[name]) for name in ("calm", "reloading"))
    by_digest = reloads["digests"].values()
    second = table(
        (f"{reloads['number']} reloads, {plan.clients} clients", ""),
        [
            ("outcomes", ", ".join(f"{count} {name}" for name, count in reloads["outcomes"].items())),
            ("requests; failed", f"{reloads['answers']}; {reloads['failed']}"),
            (
                "digests that answered; least answers of one",
                f"{len(by_digest)}; {min(by_digest)}",
            ),
            ("seconds until served, median; longest", "; ".join(f"{value:.2f}" for value in reloads["seconds"])),
            ("latency ms while nothing is reloaded, p50; p99", calm),
            ("latency ms while a reload runs, p50; p99", during),
            ("MiB before the first; after the last", "; ".join(f"{value:.0f}" for value in reloads["memory"])),
            ("processes before; after", "; ".join(map(str, reloads["processes"]))),
        ],
    )
    how = (
        f"`{REFUSED}`: the socket was closed by then. `{UNANSWERED}`, and not lost: sent after the signal, and the "
        "service's log knows nothing of it. A reload runs from SIGHUP until the old checkpoint has gone. Clients are "
        "Python on the same cores."
    )
    refused = "Corrupt checkpoints were refused so:\n\n" + "\n".join(f"- {reason}" for reason in reloads["reasons"])
    return kept.write([first, second, refused, how])

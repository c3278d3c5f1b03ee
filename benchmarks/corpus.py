"""A whole corpus by `precis corpus`: how fast, how full the engine, beside the offline limit; and killed half-way.

In turns with the limit, on texts of the same corpus: a run is held against the mean of the limits before and after it.
"""

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks import offline
from benchmarks.processes import resident_mib
from benchmarks.report import Record, Results, say, table
from training.data import read

TOLD = re.compile(r"([\d,]+) summaries by .*; (\d+) rows/s, the engine ([\d.]+)% full")
LOOK_SECONDS = 0.5
MEMORY_SECONDS = 5.0  # between two looks at all pages of all processes, which take some 20 ms of a core each


@dataclass(frozen=True, slots=True)
class Plan:
    """limit_texts: for which the offline limit is measured. Beams of 0 are the checkpoint's own."""

    data: str
    rows: int = 50_000
    beams: Sequence[int] = (4,)
    limit_texts: int = 4_000
    rounds: int = 3
    store: str = "model_store"
    name: str = "news-en"


def measure(precision: str, plan: Plan, folder: Path) -> tuple[str, bool]:
    """The report, and whether a run that was killed and taken up again gave the same bytes."""
    kept = Results(folder, "corpus", ("beams",))
    kept.forget(lambda _: True)
    texts = [pair.text for pair in islice(read(plan.data), plan.rows)]
    sample = random.Random(1).sample(texts, min(plan.limit_texts, len(texts)))
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus.jsonl"
        with corpus.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts))
        same = [_measure(kept, corpus, sample, beams, precision, plan) for beams in plan.beams]
    return _report(kept), all(same)


def _measure(kept: Results, corpus: Path, sample: Sequence[str], beams: int, precision: str, plan: Plan) -> bool:
    """Whether all runs gave the same bytes, the one that was killed too."""
    run = _Run(corpus, precision, plan, beams)
    limit = offline.Limit(precision, sample, beams, plan.store, plan.name)
    for number in range(plan.rounds):
        record = run.whole()
        record |= {"beams": beams, "round": number, "limit": limit.around()}
        kept.add({**record, "share": record["rate"] / record["limit"]})
        say(f"round {number}: {record['rate']:.0f} of {record['limit']:.0f} summaries/s, {record['full']:.1%} full")
    run.killed_half_way()
    say("the same bytes" if run.same else "NOT the same bytes")
    kept.add({"beams": beams, "same": run.same})
    return run.same


class _Run:
    """One corpus in one way."""

    def __init__(self, corpus: Path, precision: str, plan: Plan, beams: int) -> None:
        self._output = corpus.with_name(f"{beams}.jsonl")
        self._first: bytes | None = None
        self.same = True  # bytes, whenever it was run
        chosen = ["--num-beams", beams, "--model", plan.name, "--model-store", plan.store, "--precision", precision]
        self._command = [sys.executable, "-m", "app.cli", "corpus", *map(str, chosen), str(corpus)]

    def whole(self) -> Record:
        """Uninterrupted: summaries, rows a second, how full the engine was, and the most memory of all processes."""
        process, started, most = self._start(), time.monotonic(), 0.0
        while process.poll() is None:
            with suppress(OSError):  # it is over
                most = max(most, resident_mib(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(MEMORY_SECONDS)
        told = self._told(process)
        seconds = time.monotonic() - started
        self._compare()
        return {
            "summaries": int(told[1].replace(",", "")),
            "rate": float(told[2]),
            "full": float(told[3]) / 100,
            "seconds": seconds,
            "mib": most,
        }

    def killed_half_way(self) -> None:
        """After a whole one, and then taken up again."""
        process, work = self._start(), self._output.with_name(self._output.name + ".partial")
        while process.poll() is None and 2 * sum(each.stat().st_size for each in work.glob("*.rows")) < self._size:
            time.sleep(LOOK_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        say(f"killed with {len(list(work.glob('*.rows')))} shards finished")
        self._told(self._start())
        self._compare()

    def _compare(self) -> None:
        content = self._output.read_bytes()
        self._output.unlink()
        self._first = self._first or content
        self.same = self.same and content == self._first

    @property
    def _size(self) -> int:
        return len(self._first or b"")

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen([*self._command, str(self._output)], stderr=subprocess.PIPE, text=True)

    def _told(self, process: "subprocess.Popen[str]") -> "re.Match[str]":
        _, errors = process.communicate()
        told = TOLD.search(errors)
        if process.returncode or told is None:
            raise RuntimeError(f"precis corpus ended with {process.returncode}: {errors}")
        return told


def _report(kept: Results) -> str:
    same = {record["beams"]: record["same"] for record in kept.read() if "same" in record}
    rows = [
        (
            record["beams"],
            f"{record['summaries']:,}",
            f"{record['rate']:.0f}",
            f"{record['limit']:.0f}",
            f"{record['share']:.3f}",
            f"{record['full']:.1%}",
            f"{record['seconds']:.0f}",
            f"{record['mib']:.0f}",
            "yes" if same[record["beams"]] else "NO",
        )
        for record in kept.medians(record for record in kept.read() if "round" in record)
    ]
    names = (
        "beams",
        "summaries",
        "summaries/s",
        "offline limit",
        "share",
        "live rows / rows",
        "seconds in all",
        "most MiB",
        "the same bytes each time, killed and taken up too",
    )
    return kept.write([table(names, rows)])

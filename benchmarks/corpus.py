"""A whole corpus by `precis corpus`: how fast, how full the engine, beside the offline limit; and killed half-way.

The limit is measured before and after, on texts of the same corpus; the better one counts.
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
        for beams in plan.beams:
            run = _Run(corpus, precision, plan, beams)
            before = _limit(precision, plan, sample, beams)
            record = run.whole()
            limit = max(before, _limit(precision, plan, sample, beams))
            record |= {"beams": beams, "limit": limit, "share": record["rate"] / limit, "same": run.killed_half_way()}
            kept.add(record)
            say(json.dumps(record))
    return _report(kept), all(record["same"] for record in kept.read())


def _limit(precision: str, plan: Plan, texts: Sequence[str], beams: int) -> float:
    """Summaries a second, of the best way with the best number of rows."""
    rates = [
        rate
        for rows in offline.ROWS[False]
        for rate in offline.measure(precision, texts, beams, rows, plan.store, plan.name).values()
    ]
    say(f"offline limit with {beams} beams: {max(rates):.0f}/s")
    return max(rates)


class _Run:
    """One corpus in one way."""

    def __init__(self, corpus: Path, precision: str, plan: Plan, beams: int) -> None:
        self._output = corpus.with_name(f"{beams}.jsonl")
        self._again = corpus.with_name(f"{beams}-again.jsonl")
        chosen = ["--num-beams", beams, "--model", plan.name, "--model-store", plan.store, "--precision", precision]
        self._command = [sys.executable, "-m", "app.cli", "corpus", *map(str, chosen), str(corpus)]

    def whole(self) -> Record:
        """Uninterrupted: summaries, rows a second, how full the engine was, and the most memory of all processes."""
        process, started, most = self._start(self._output), time.monotonic(), 0.0
        while process.poll() is None:
            with suppress(OSError):  # it is over
                most = max(most, resident_mib(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(MEMORY_SECONDS)
        told = self._told(process)
        seconds = time.monotonic() - started
        return {
            "summaries": int(told[1].replace(",", "")),
            "rate": float(told[2]),
            "full": float(told[3]) / 100,
            "seconds": seconds,
            "mib": most,
        }

    def killed_half_way(self) -> bool:
        """Whether a run that was killed then, and another one after it, give the same."""
        process, partial = self._start(self._again), self._again.with_name(self._again.name + ".partial")
        size = self._output.stat().st_size
        while process.poll() is None and 2 * sum(each.stat().st_size for each in partial.glob("*.rows")) < size:
            time.sleep(LOOK_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        say(f"killed with {len(list(partial.glob('*.rows')))} shards finished")
        self._told(self._start(self._again))
        return self._output.read_bytes() == self._again.read_bytes()

    def _start(self, output: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen([*self._command, str(output)], stderr=subprocess.PIPE, text=True)

    def _told(self, process: "subprocess.Popen[str]") -> "re.Match[str]":
        _, errors = process.communicate()
        told = TOLD.search(errors)
        if process.returncode or told is None:
            raise RuntimeError(f"precis corpus ended with {process.returncode}: {errors}")
        return told


def _report(kept: Results) -> str:
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
            "yes" if record["same"] else "NO",
        )
        for record in kept.read()
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
        "killed and taken up: the same bytes",
    )
    return kept.write([table(names, rows)])

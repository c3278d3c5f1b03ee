"""Where results go: a JSON line for each measurement, so that a run can be taken up again; tables; plots."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Results:
    """One file of records in the output folder. What tells a measurement from others is in the fields `keys`."""

    folder: Path
    name: str
    keys: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    def read(self) -> list[Record]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def add(self, record: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "commit": commit()}) + "\n")

    def forget(self, unwanted: Callable[[Record], bool]) -> None:
        """Drop what is to be measured again."""
        if self.path.exists():
            kept = [record for record in self.read() if not unwanted(record)]
            self.path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def has(self, **values: Any) -> bool:
        """Whether this was measured already."""
        return any(all(record.get(name) == value for name, value in values.items()) for record in self.read())

    def medians(self, records: Iterable[Record] | None = None) -> list[Record]:
        """One record for each measurement: the medians of its rounds, whose number is added."""
        groups: dict[tuple[Any, ...], list[Record]] = {}
        for record in self.read() if records is None else records:
            groups.setdefault(tuple(record.get(key) for key in self.keys), []).append(record)
        return [self._median(rounds) for rounds in groups.values()]

    def _median(self, rounds: Sequence[Record]) -> Record:
        numbers = [name for name, value in rounds[0].items() if isinstance(value, int | float)]
        measured = [name for name in numbers if name not in self.keys]
        medians = {name: statistics.median(record[name] for record in rounds) for name in measured}
        return {**rounds[0], **medians, "rounds": len(rounds)}

    def write(self, parts: Sequence[str]) -> str:
        """The report beside the records, headed by machine, commits and command."""
        commits = sorted({record["commit"] for record in self.read()})
        text = "\n\n".join([f"# {self.name}", machine(commits), *parts]) + "\n"
        (self.folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        return text


def say(line: str) -> None:
    """How far a run has come."""
    print(line, flush=True)


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; numbers to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    ruler = ["---:" if all(line[column][:1].isdigit() for line in lines) else "---" for column in range(len(names))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(names), ruler, *lines])


def plot(path: Path, title: str, axes: tuple[str, str], lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Lines over logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, area = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, points in lines.items():
        area.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    area.set(title=title, xlabel=axes[0], ylabel=axes[1], xscale="log", yscale="log")
    area.grid(True, which="both", alpha=0.3)
    area.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def machine(commits: Sequence[str]) -> str:
    """What was measured, on what, how and when."""
    facts = {
        "Machine": f"{cores()} cores of {processor()}, {memory_gib()} GiB{_gpu()}",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {_libraries()}",
        "Commit": ", ".join(commits) or commit(),
        "Command": f"`{shlex.join(['python', '-m', 'benchmarks', *sys.argv[1:]])}`",
        "Date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def commit() -> str:
    """Short name of the commit; with + where something is changed since."""
    try:
        ask = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _gpu() -> str:
    import torch

    return f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


def _libraries() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("torch", "transformers", "fastapi", "uvicorn", "litserve", "ray", "bentoml", "ctranslate2"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)

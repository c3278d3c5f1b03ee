"""The roofline of this machine: how many summaries a second its products and its memory allow at most.

`counting.py` says what a checkpoint's network costs; here the machine is measured in the very shapes of it, on one core
and on all of them at once. Time is that of the measuring thread alone, so that others are not charged to it; but cores
that share something (siblings of one core, caches, memory) slow each other down, and that is what the ratio shows.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.checkpoint import read_json
from app.models.kernels import Int8Weights
from app.models.lstm.network import NetworkConfig
from app.models.registry import load as load_model
from benchmarks.counting import PRECISIONS, Limit, Load, Machine, Part, Shape, encoding, limit, step
from benchmarks.texts import mixed_texts

WORKING_SETS = tuple(size << 20 for size in (1, 4, 8, 16, 32, 256))
SECONDS = 0.1  # of each measurement, and
FEWEST = 5  # calls, whichever takes longer

Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Means over texts: source tokens, those of them that are not among the frequent ones, summary tokens."""

    source: int
    own: int
    summary: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the roofline: `limit` at the throughput of each shape, `peak` as if all ran like the fastest."""

    precision: str
    rows: int
    cores: int
    limit: Limit
    peak: Limit


@dataclass(frozen=True, slots=True)
class Roofline:
    """Everything that was counted and measured. `copies`: bytes a second of one core, by working set."""

    lengths: Lengths
    frequent: int
    beams: int
    parts: dict[str, tuple[list[Part], list[Part]]]  # of one row, by precision
    machines: list[Machine]  # one core, all cores
    copies: list[dict[int, float]]
    rows: list[Row]


def measure(store: Path, name: str, texts: int, beams: int, rows: Sequence[int]) -> Roofline:
    """The roofline of a checkpoint on this machine, in less than three minutes on a quiet one.

    rows: of one core. texts: of the committed sample, decoded to know how long summaries are.
    """
    config = NetworkConfig(**read_json(store / name / "config.json")["network"])
    lengths, frequent = _lengths(store, name, texts, beams)
    loads = {count: Load(max(1, count // beams), beams, lengths.source, lengths.own) for count in rows}
    work = {
        (precision, count): (encoding(config, precision, load), step(config, precision, load, frequent))
        for precision, (count, load) in product(PRECISIONS, loads.items())
    }
    shapes = {(part.type, part.shape) for phases in work.values() for phase in phases for part in phase if part.shape}
    cores = sorted({1, available_cores()})
    machines = [_machine(count, sorted(shapes)) for count in cores]
    copies = [_bandwidth(_copy, count) for count in cores]
    found = [
        Row(
            precision,
            loads[count].texts * beams,
            machine.cores,
            *(limit(*phases, each, loads[count].texts, lengths.summary + 1) for each in (machine, machine.at_peak())),
        )
        for (precision, count), phases in work.items()
        for machine in machines
    ]
    one = {precision: work[precision, min(rows)] for precision in PRECISIONS}
    return Roofline(lengths, frequent, beams, one, machines, copies, found)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lengths(store: Path, name: str, count: int, beams: int) -> tuple[Lengths, int]:
    """And the number of frequent tokens."""
    model = load_model(store, name, device="cpu")
    texts, shared = mixed_texts(count), model.shared
    options = replace(model.info.defaults, num_beams=beams)
    with Engine(model, max_rows=32, max_queue=count) as engine:
        requests = [SummaryRequest(text, options, timeout=3600.0) for text in texts]
        summaries = [future.result() for future in engine.submit(requests)]
    sources = [model.tokenize(text).ids[: model.info.limits.max_source_tokens] for text in texts]
    own = [len(set(source) - shared.columns.keys()) for source in sources]
    return Lengths(
        round(statistics.mean(map(len, sources))),
        round(statistics.mean(own)),
        statistics.mean(summary.summary_tokens for summary in summaries),
    ), len(shared.tokens)


def _machine(cores: int, shapes: Sequence[tuple[str, Shape]]) -> Machine:
    throughput = {
        (kind, shape): shape.operations / seconds_each(partial(multiplication, kind, shape), cores)
        for kind, shape in shapes
    }
    return Machine(cores, throughput, _bandwidth(_read, cores))


def multiplication(kind: str, shape: Shape) -> Action:
    """One product of this type and shape, in operands of its own; a single output is computed as 32, as in a step."""
    batch, rows, inner, outer = shape
    outer = max(outer, 32)
    if kind == "int8":
        prepared, units = Int8Weights(torch.randn(outer, inner), torch.zeros(outer)), torch.ones(rows)
        left = torch.randint(-127, 128, (rows, inner), dtype=torch.int8)
        return lambda: prepared.multiply(left, units)
    dtype = getattr(torch, kind)
    if batch == 1:
        inputs, weights = torch.randn(rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
        return lambda: F.linear(inputs, weights)
    many, each = torch.randn(batch, rows, inner).to(dtype), torch.randn(batch, inner, outer).to(dtype)
    return lambda: torch.bmm(many, each)


def _bandwidth(action: Callable[[int], Action], cores: int) -> dict[int, float]:
    """Bytes a second of one core, where `cores` of them share each working set out evenly."""
    return {size: size / cores / seconds_each(partial(action, size // cores), cores) for size in WORKING_SETS}


def _read(size: int) -> Action:
    numbers = torch.ones(size // 4)
    return numbers.sum  # of all that were tried, what reads fastest


def _copy(size: int) -> Action:
    """Half of the working set to the other half: all of it is read or written."""
    source, target = torch.ones(size // 8), torch.ones(size // 8)
    return lambda: target.copy_(source)


def seconds_each(prepare: Callable[[], Action], cores: int) -> float:
    """Median seconds of one call of a prepared action, done by `cores` threads at once, each on one of its own."""
    barrier = threading.Barrier(cores)
    with ThreadPoolExecutor(cores) as pool:
        samples = [pool.submit(_samples, prepare, barrier) for _ in range(cores)]
        return statistics.median(sample for each in samples for sample in each.result())


def _samples(prepare: Callable[[], Action], barrier: threading.Barrier) -> list[float]:
    """Seconds of this thread, several calls at a time so that the clock does not count."""
    torch.set_num_threads(1)
    action = prepare()
    action()
    started = time.thread_time()
    action()
    calls = max(1, min(100, int(0.001 / max(time.thread_time() - started, 1e-7))))
    barrier.wait()
    samples: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(samples) < FEWEST or time.perf_counter() < end:
        started = time.thread_time()
        for _ in range(calls):
            action()
        samples.append((time.thread_time() - started) / calls)
    return samples


def as_json(roofline: Roofline) -> dict[str, Any]:
    """Plain objects and lists: all figures, with units as in the classes."""
    return {
        **asdict(roofline),
        "torch": torch.__version__,
        "machines": [
            {
                "cores": machine.cores,
                "throughput": [
                    {"type": kind, **shape._asdict(), "operations_per_second": rate}
                    for (kind, shape), rate in machine.throughput.items()
                ],
                "bandwidth": machine.bandwidth,
            }
            for machine in roofline.machines
        ],
    }


def as_markdown(roofline: Roofline) -> str:
    """What is counted, what was measured, and the limits."""
    return "\n\n".join([_counted(roofline), _throughputs(roofline), _bandwidths(roofline), _limits(roofline)])


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], words: int = 1) -> str:
    """The first columns (`words`) are words, the rest numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, rule, *rows))


def _counted(roofline: Roofline) -> str:
    """Of one row: operations are the same in every precision, bytes are not."""
    length = roofline.lengths
    rows: list[list[object]] = []
    for phase, unit, share in ((0, "source token", length.source), (1, "summary token", 1)):
        columns = [roofline.parts[precision][phase] for precision in PRECISIONS]
        for parts in zip(*columns, strict=True):
            times = parts[0].times / share
            sizes = [f"{part.times * part.bytes / share / 1e3:,.1f}" for part in parts]
            rows.append([unit, parts[0].name, f"{parts[0].operations * times / 1e6:,.3f}", *sizes])
        sums = [sum(part.times * part.bytes for part in parts) / share / 1e3 for parts in columns]
        operations = sum(part.times * part.operations for part in columns[0]) / share / 1e6
        rows.append([unit, "**all**", f"{operations:,.3f}", *(f"{size:,.1f}" for size in sums)])
    head = ["for each", "part", "million operations", *(f"kB, {precision}" for precision in PRECISIONS)]
    mean = f"{length.source} source tokens ({length.own} not frequent), {length.summary:.1f} summary tokens"
    return f"Counted, a text alone ({mean}):\n\n{_table(head, rows, words=2)}"


def _throughputs(roofline: Roofline) -> str:
    """One line for each product with weights and number of rows, one column for each type."""
    machines = roofline.machines
    names: dict[tuple[int, int], list[str]] = {}
    for part in chain(*roofline.parts["float32"]):
        if part.shape and part.weights and part.shape.outer > 1:
            names.setdefault((part.shape.inner, part.shape.outer), []).append(part.name)
    rows: list[list[object]] = []
    for (inner, outer), parts in names.items():
        same = {shape for _, shape in machines[0].throughput if shape.batch == 1 and shape[2:] == (inner, outer)}
        for shape in sorted(same):
            rates = [[each.throughput.get((kind, shape)) for each in machines] for kind in PRECISIONS]
            rows.append([", ".join(parts), f"{inner} -> {outer}", shape.rows, *(_rates(each, 1e9) for each in rates)])
    peaks = [_rates([machine.peak(kind) for machine in machines], 1e9) for kind in PRECISIONS]
    rows.append(["**highest of all**", "", "", *peaks])
    head = ["product", "sizes", "rows", *(f"{kind}{_cores(roofline)}" for kind in PRECISIONS)]
    return f"Products, 10^9 operations/s and core:\n\n{_table(head, rows, words=2)}"


def _bandwidths(roofline: Roofline) -> str:
    read = [machine.bandwidth for machine in roofline.machines]
    rows = [
        [f"{size / 2**20:g}", *(_rates([each[size] for each in kind], 1e9) for kind in (read, roofline.copies))]
        for size in WORKING_SETS
    ]
    head = ["MiB of all cores", f"read{_cores(roofline)}", f"copied, read and written{_cores(roofline)}"]
    return f"Memory, GB/s and core:\n\n{_table(head, rows)}"


def _limits(roofline: Roofline) -> str:
    rows = [
        [
            row.precision,
            row.rows,
            row.cores,
            f"{1e3 * row.limit.encode:.2f}",
            f"{1e3 * row.limit.decode:.2f}",
            f"{row.limit.memory:.0%}",
            f"{row.limit.rate:.1f}",
            f"{row.peak.rate:.1f}",
        ]
        for row in roofline.rows
    ]
    head = [
        "precision",
        "rows of a core",
        "cores",
        "encode ms",
        "decode ms",
        "memory's share",
        "summaries/s",
        "at peak",
    ]
    said = "each product at the throughput of its shape; `at peak`, at the highest of its type"
    return f"Roofline, beams {roofline.beams} ({said}):\n\n{_table(head, rows)}"


def _cores(roofline: Roofline) -> str:
    return ": one core, all (ratio)" if len(roofline.machines) > 1 else ""


def _rates(values: Sequence[float | None], unit: float) -> str:
    """A core's rate alone and while all work, and the ratio of the two."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    alone, among = known[0] / unit, known[-1] / unit
    return f"{alone:.0f}" if len(known) == 1 else f"{alone:.0f}, {among:.0f} ({among / alone:.2f})"

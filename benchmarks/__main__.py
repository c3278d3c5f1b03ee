"""`python -m benchmarks`: measure this checkout on this machine."""

import json
import random
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import (
    alone,
    batches,
    capacity,
    company,
    comparison,
    connections,
    corpus,
    faults,
    leavers,
    open_loop,
    overload,
    replicas,
    restarts,
    roofline,
    scaling,
    soak,
    streams,
    ties,
    tune,
)
from benchmarks.counting import PRECISIONS
from benchmarks.systems import System
from benchmarks.texts import SAMPLE

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8.")]
Output = Annotated[Path, typer.Option(help="Folder for records, tables and plots.")]
Quick = Annotated[bool, typer.Option("--quick", help="A look: one round, few and short runs.")]
OUTPUT = Path("runs") / "benchmarks"


def among(names: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """A mistyped name must not measure nothing."""

    def check(values: list[str]) -> list[str]:
        if unknown := [value for value in values if value not in names]:
            raise typer.BadParameter(f"{', '.join(unknown)}: not among {', '.join(names)}")
        return values

    return check


Only = Annotated[list[str], typer.Option(help="Some of: " + ", ".join(comparison.ALL), callback=among(comparison.ALL))]


@app.callback()
def main() -> None:
    """Measurements of the service. Whatever ends them, the servers that they started end too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@app.command(name="peers")
def peers_command(
    only: Only = [*comparison.ALL],  # noqa: B006
    precision: Precision = "auto",
    clients: list[int] = [1, 8, 64, 256],  # noqa: B006
    beams: list[int] = [1, 4],  # noqa: B006
    rounds: int = 3,
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 4.0,
    output: Output = OUTPUT,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is measured already.")] = False,
    quick: Quick = False,
) -> None:
    """Ours, the peers and the offline limit: closed loops, greedy and with beams."""
    plan = comparison.Plan(only, precision, clients=clients, beams=beams, rounds=rounds, seconds=seconds)
    if quick:
        plan = comparison.Plan(
            only, precision, ["bfloat16"], clients=[8, 64], beams=[1], rounds=1, seconds=2, texts=128, rows=[64]
        )
    print(comparison.measure(plan, output, resume))


@app.command(name="tune")
def tune_command(
    only: Only = ["litserve", "ray", "bentoml"],  # noqa: B006
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "bfloat16",
    seconds: float = 5.0,
    output: Output = OUTPUT,
) -> None:
    """The peers in other batches, waits, processes and threads."""
    print(tune.measure(comparison.Plan(only, peer_precisions=[precision], seconds=seconds), output))


@app.command(name="transformers")
def transformers_command(
    only: Annotated[
        list[str], typer.Option(help="Some of precis, plain and litserve (with generate), ctranslate2, offline; all.")
    ] = [],  # noqa: B006
    size: Annotated[list[str], typer.Option(help="bart-base, t5-small; bart-tiny, t5-tiny for a look.")] = [],  # noqa: B006
    precision: Annotated[list[str], typer.Option(help="Some of float32, bfloat16, int8; all.")] = [],  # noqa: B006
    length: Annotated[int, typer.Option(min=1, help="Tokens of every summary.")] = 32,
    clients: list[int] = [1, 8, 64],  # noqa: B006
    beams: list[int] = [1],  # noqa: B006
    rounds: int = 3,
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 10.0,
    output: Output = OUTPUT,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is measured already.")] = False,
    tuning: Annotated[bool, typer.Option("--tune", help="The peers in other batches and threads, instead.")] = False,
    quick: Quick = False,
) -> None:
    """Hugging Face encoder-decoders with random weights: ours, `generate` and CTranslate2, served and offline."""
    from benchmarks import folders, transformers  # with a library that only some checkpoints need

    for values, names in ((only, transformers.ALL), (size, [*folders.SIZES]), (precision, PRECISIONS)):
        among(names)(values)
    plan = transformers.Plan(
        only or transformers.ALL, clients=clients, beams=beams, rounds=rounds, seconds=seconds, length=length
    )
    plan = replace(plan, sizes=size or plan.sizes, precisions=precision or plan.precisions)
    if quick:
        plan = replace(plan, clients=[8], rounds=1, seconds=1.0, texts=32, length=8, each=0)
    print(transformers.tune(plan, output) if tuning else transformers.measure(plan, output, resume))


@app.command(name="open-loop")
def open_loop_command(
    only: Only = ["precis"],  # noqa: B006
    precision: Precision = "auto",
    beams: list[int] = [1],  # noqa: B006
    rounds: int = 3,
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 30.0,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Latency at random arrivals, at 30, 60 and 80 % of our maximum; peers too, if named after precis."""
    plan = comparison.Plan(
        only, precision, ["bfloat16"], beams=beams, rounds=1 if quick else rounds, seconds=5.0 if quick else seconds
    )
    print(open_loop.measure(plan, open_loop.SHARES, output))


@app.command(name="alone")
def alone_command(
    precision: Precision = "auto",
    texts: int = 100,
    rounds: int = 3,
    beams: list[int] = [1, 4],  # noqa: B006
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """One client, beside a bare loop over the model."""
    print(alone.measure(precision, 20 if quick else texts, 1 if quick else rounds, beams, output))


@app.command(name="scaling")
def scaling_command(
    precision: Precision = "auto", rounds: int = 3, seconds: float = 5.0, output: Output = OUTPUT, quick: Quick = False
) -> None:
    """What doubling the source, the summary, beams or clients costs."""
    print(scaling.measure(precision, 1 if quick else rounds, 2.0 if quick else seconds, output))


@app.command(name="batches")
def batches_command(
    precision: Precision = "auto", rounds: int = 3, output: Output = OUTPUT, quick: Quick = False
) -> None:
    """Texts a second in batch requests of several sizes, beside the offline limit."""
    plan = batches.Plan(rounds=rounds)
    if quick:
        plan = batches.Plan(beams=(1,), rounds=1, seconds=2.0, texts=300)
    print(batches.measure(precision, plan, output))


@app.command(name="connections")
def connections_command(
    precision: Precision = "auto", clients: int = 1000, minutes: float = 10.0, output: Output = OUTPUT
) -> None:
    """A thousand clients for ten minutes: errors, memory, lag of the event loop."""
    print(connections.measure(precision, clients, minutes, output))


@app.command(name="corpus")
def corpus_command(
    data: Annotated[str, typer.Option(help="PATH or PATH:ROWS, JSON lines with `text` and `summary`.")] = str(SAMPLE),
    rows: Annotated[int, typer.Option(help="That are taken of it, at most.")] = 50_000,
    beams: list[int] = [4],  # noqa: B006
    precision: Precision = "auto",
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """A whole corpus beside the offline limit, then killed half-way: exits with 1 when one byte is different."""
    plan = corpus.Plan(data, rows, beams)
    if quick:
        plan = corpus.Plan(data, 3_000, beams, limit_texts=500, rounds=1)
    report, same = corpus.measure(precision, plan, output)
    print(report)
    raise SystemExit(0 if same else 1)


@app.command(name="faults")
def faults_command(
    precision: Precision = "auto",
    count: Annotated[int, typer.Option("--faults", help="How many processes are killed or stopped, in turn.")] = 100,
    clients: int = 16,
    texts: int = 200,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Processes that are killed and stopped under load: failed requests, changed summaries, time to recover."""
    print(faults.measure(precision, len(faults.FAULTS) if quick else count, clients, texts, output))


@app.command(name="streams")
def streams_command(
    precision: Precision = "auto",
    clients: Annotated[int, typer.Option(help="Who stream at once.")] = 200,
    others: Annotated[int, typer.Option(help="Who wait for whole summaries, beside the stalled.")] = 64,
    stalled: Annotated[int, typer.Option(help="Who ask for a long stream and do not read it.")] = 50,
    rounds: int = 3,
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 10.0,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """When streamed tokens come, and what readers cost who do not read."""
    plan = streams.Plan(clients, others, stalled, rounds, seconds)
    if quick:
        plan = streams.Plan(clients=20, others=8, stalled=5, rounds=1, seconds=2.0)
    print(streams.measure(precision, plan, output))


@app.command(name="overload")
def overload_command(
    precision: Precision = "auto",
    deadline_ms: Annotated[list[int], typer.Option(help="Of every request.")] = [2_000, 60_000],  # noqa: B006
    times: Annotated[float, typer.Option(help="How many times the maximum is offered.")] = 10.0,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 60.0,
    connections: int = 2_000,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Ten times the maximum: statuses, latency of the admitted, memory, and how soon all is calm again."""
    plan = overload.Plan(deadline_ms, times, seconds, connections)
    if quick:
        plan = overload.Plan(deadline_ms[:1], times, 5.0, connections, closed_seconds=3.0)
    print(overload.measure(precision, plan, output))


@app.command(name="leavers")
def leavers_command(
    precision: Precision = "auto", clients: int = 1000, rounds: int = 3, output: Output = OUTPUT
) -> None:
    """Clients who leave before they are answered: rows, memory and files that are left of them."""
    print(leavers.measure(precision, clients, rounds, output))


@app.command(name="restarts")
def restarts_command(
    precision: Precision = "auto",
    stops: Annotated[int, typer.Option(help="SIGTERMs, each of a service of its own.")] = 50,
    reloads: Annotated[int, typer.Option(help="Of one service; every fourth one to a corrupt checkpoint.")] = 20,
    clients: int = 32,
    seconds: Annotated[float, typer.Option(help="Of load before each, on average.")] = 1.5,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Stops and reloads under load: what becomes of every single request."""
    plan = restarts.Plan(3 if quick else stops, 4 if quick else reloads, clients, seconds)
    print(restarts.measure(precision, plan, output))


@app.command(name="replicas")
def replicas_command(
    precision: Precision = "auto",
    rounds: int = 3,
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 5.0,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Behind nginx, which has to be installed: what a second replica brings."""
    plan = replicas.Plan(rounds=rounds, seconds=seconds)
    print(replicas.measure(precision, replicas.Plan((64,), (1,), 1, 1.0) if quick else plan, output))


@app.command(name="ray")
def ray_command(
    precision: Precision = "auto",
    clients: Annotated[int, typer.Option(help="While something fails, or is scaled.")] = 16,
    rounds: int = 2,
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 5.0,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Ray Serve: what it costs a request, what a second replica brings, and what is lost with a replica or a node."""
    from benchmarks import ray_failures, ray_throughput  # with a library that only these need

    plan = replicas.Plan(rounds=rounds, seconds=seconds)
    if quick:
        plan, rounds = replicas.Plan(clients=(64,), beams=(1,), rounds=1, seconds=2.0), 1
    print(ray_throughput.measure(precision, plan, output))
    print(ray_failures.measure(precision, clients, rounds, output))


@app.command(name="hostile")
def hostile_command(
    precision: Precision = "auto",
    requests: Annotated[int, typer.Option(help="Made from the OpenAPI document; at least so many.")] = 10_000,
    bodies: Annotated[int, typer.Option(help="That a route should look at twice.")] = 5_000,
    heads: Annotated[int, typer.Option(help="Methods, paths and headers that hardly anybody sends.")] = 2_000,
    conversations: Annotated[int, typer.Option(help="Bytes that are almost HTTP.")] = 2_000,
    output: Output = OUTPUT,
    quick: Quick = False,
) -> None:
    """Thousands of hostile requests: exits with 1 when one answer was wrong."""
    from benchmarks import hostile  # with libraries that only tests need

    plan = hostile.Plan(requests, bodies, heads, conversations)
    report, wrong = hostile.measure(precision, hostile.Plan(100, 100, 100, 100) if quick else plan, output)
    print(report)
    raise SystemExit(1 if wrong else 0)


@app.command(name="soak")
def soak_command(
    minutes: float = 30.0,
    faults: Annotated[bool, typer.Option(help="Kill or stop a lane's process now and then.")] = True,
    reloads: Annotated[bool, typer.Option(help="Have the service reload its checkpoints now and then.")] = True,
    seed: Annotated[int | None, typer.Option(help="Of all that is random; a new one when left out.")] = None,
    precision: Precision = "auto",
    output: Output = OUTPUT,
) -> None:
    """Everything at once for long, faults and reloads too: exits with 1 when an answer is wrong or something grows."""
    plan = soak.Plan(random.randrange(10**6) if seed is None else seed, minutes, faults, reloads)
    report, well = soak.measure(plan, System("precis", precision), output)
    print(report)
    raise SystemExit(0 if well else 1)


@app.command(name="capacity")
def capacity_command(
    articles_a_day: int = 10_000_000,
    peak: Annotated[float, typer.Option(help="When most come, times the mean of the day.")] = 2.0,
    p99_ms: Annotated[float, typer.Option(help="Of the answers then.")] = 500.0,
    tokens: Annotated[list[int], typer.Option(help="Of an article, on average; the model reads 400.")] = [110, 400],  # noqa: B006
    summary_tokens: Annotated[float, typer.Option(help="Of a summary, on average.")] = 14.7,
    beams: list[int] = [1, 4],  # noqa: B006
    cores: Annotated[int, typer.Option(help="Of each replica.")] = 2,
    maximum: Annotated[
        float, typer.Option(help="Summaries a second of two of your cores, as `open-loop` finds it.")
    ] = capacity.MAXIMUM,
    idle_ms: Annotated[float, typer.Option(help="Median one at a time, from the same.")] = capacity.IDLE_MS,
    check: Annotated[bool, typer.Option("--check", help="How far off this is, instead.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="Replicas, cores, sources and beams, instead.")] = False,
    output: Output = OUTPUT,
) -> None:
    """How many replicas so many articles a day need: simulated with measured costs, within seconds."""
    costs = capacity.calibrated(maximum, idle_ms)
    if check:
        print(capacity.report_check(costs))
    elif growth:
        print(capacity.report_growth(costs, output))
    else:
        mixes = [capacity.mix_of(size, summary_tokens, width) for size in tokens for width in beams]
        needs = [capacity.Need(articles_a_day, peak, p99_ms, mix, cores) for mix in mixes]
        print(capacity.report_needs(needs, costs))


@app.command(name="company")
def company_command(
    texts: int = 1000,
    name: str = "news-en",
    store: Path = Path("model_store"),
    precision: list[str] = list(PRECISIONS),  # noqa: B006
    max_rows: int = 64,
    seed: int = 1,
) -> None:
    """The same texts alone and in random company, in every precision: exits with 1 when one token differs."""
    different = 0
    for each in precision:
        result = company.measure(store, name, texts, each, max_rows, seed)
        different += result.different_tokens
        print(
            f"{result.texts} texts, {each}, {result.left} others left: {result.different_tokens} with other tokens, "
            f"{result.different_attention} with other attention (largest difference {result.largest_difference:.2g})",
            flush=True,
        )
    raise SystemExit(1 if different else 0)


@app.command(name="roofline")
def roofline_command(
    name: str = "news-en",
    store: Path = Path("model_store"),
    texts: Annotated[int, typer.Option(help="How many of the sample are decoded, to know their lengths.")] = 100,
    beams: int = 1,
    rows: Annotated[list[int], typer.Option(help="Of one core.")] = [1, 8, 32, 64],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, instead of tables.")] = False,
) -> None:
    """How many summaries a second the products and the memory of this machine allow at most."""
    found = roofline.measure(store, name, texts, beams, rows)
    print(json.dumps(roofline.as_json(found)) if as_json else roofline.as_markdown(found))


@app.command(name="ties")
def ties_command(
    data: Annotated[str, typer.Option(help="PATH, PATH:ROWS or PATH:FROM-TO, JSON lines with `text`.")] = str(SAMPLE),
    name: str = "news-en",
    store: Path = Path("model_store"),
    precision: list[str] = list(PRECISIONS),  # noqa: B006
    beams: list[int] = [1, 4],  # noqa: B006
    keep: Annotated[int, typer.Option(help="Of each precision and number of beams.")] = 8,
    output: Annotated[
        Path | None, typer.Option(help="JSON lines with the texts: only where these may be passed on.")
    ] = None,
) -> None:
    """The texts whose summaries hang on the smallest differences, by id; one core."""
    cases = ties.measure(store, name, data, precision, beams, keep)
    print("| id | precision | beams | difference |\n|---|---|---:|---:|")
    for case in cases:
        print(f"| {case.id} | {case.precision} | {case.beams} | {case.gap:.2g} |")
    if output:
        ties.write(cases, output)


if __name__ == "__main__":
    app()

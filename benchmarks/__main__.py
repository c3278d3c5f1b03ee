"""`python -m benchmarks`: measure this checkout on this machine."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import alone, company, comparison, connections, open_loop, scaling, tune

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8.")]
Output = Annotated[Path, typer.Option(help="Folder for records, tables and plots.")]
Quick = Annotated[bool, typer.Option("--quick", help="A look in a minute or two: one round, few and short runs.")]
OUTPUT = Path("runs") / "benchmarks"


@app.callback()
def main() -> None:
    """Measurements of the service. Whatever ends them, the servers that they started end too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@app.command(name="peers")
def peers_command(
    only: Annotated[list[str], typer.Option(help="Some of: " + ", ".join(comparison.ALL))] = [*comparison.ALL],  # noqa: B006
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
    only: list[str] = ["litserve", "ray", "bentoml"],  # noqa: B006
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "bfloat16",
    seconds: float = 5.0,
    output: Output = OUTPUT,
) -> None:
    """The peers in other batches, waits, processes and threads."""
    print(tune.measure(comparison.Plan(only, peer_precisions=[precision], seconds=seconds), output))


@app.command(name="open-loop")
def open_loop_command(
    only: list[str] = ["precis"],  # noqa: B006
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


@app.command(name="connections")
def connections_command(
    precision: Precision = "auto", clients: int = 1000, minutes: float = 10.0, output: Output = OUTPUT
) -> None:
    """A thousand clients for ten minutes: errors, memory, lag of the event loop."""
    print(connections.measure(precision, clients, minutes, output))


@app.command(name="company")
def company_command(
    texts: int = 1000,
    name: str = "news-en",
    store: Path = Path("model_store"),
    precision: Precision = "auto",
    max_rows: int = 64,
    seed: int = 1,
) -> None:
    """The same texts alone and in random company: exits with 1 when one token differs."""
    result = company.measure(store, name, texts, precision, max_rows, seed)
    print(
        f"{result.texts} texts, {precision}: {result.different_tokens} with other tokens, "
        f"{result.different_attention} with other attention (largest difference {result.largest_difference:.2g})"
    )
    raise SystemExit(1 if result.different_tokens else 0)


if __name__ == "__main__":
    app()

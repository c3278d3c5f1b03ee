"""`python -m benchmarks`: measure this checkout on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import company, roofline, throughput, ties
from benchmarks.counting import PRECISIONS
from benchmarks.texts import SAMPLE

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8.")]


@app.command(name="throughput")
def throughput_command(
    texts: int = 400,
    rounds: int = 3,
    clients: list[int] = [1, 8, 64],  # noqa: B006
    beams: list[int] = [1, 4],  # noqa: B006
    precision: Precision = "auto",
) -> None:
    """Summaries a second and latency over HTTP, as a Markdown table."""
    print("| clients | beams | summaries/s | median ms | p95 ms |\n|---:|---:|---:|---:|---:|")
    for load in throughput.measure(texts, rounds, clients, beams, precision):
        print(f"| {load.clients} | {load.beams} | {load.rate:.1f} | {load.median:.0f} | {load.p95:.0f} |")


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

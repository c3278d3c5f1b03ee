"""`python -m benchmarks`: measure this checkout on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import company, throughput

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

"""`precis corpus`: a file of texts becomes a file of summaries, in one run or in several."""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import (
    Cut,
    Device,
    EarlyStopping,
    LengthPenalty,
    MaxLength,
    MinLength,
    ModelName,
    NoRepeatNgramSize,
    NumBeams,
    NumbersFromSource,
    Precision,
    RepetitionPenalty,
    Store,
    parameters,
    settings_of,
)
from app.cli.output import say
from app.cli.progress import pace
from app.config import Settings, let_waiting_threads_sleep
from app.errors import ConfigurationError
from app.schemas import Options

if TYPE_CHECKING:
    from app.corpus.run import Workers

EXAMPLES = """[bold]Examples[/bold]

precis corpus articles.jsonl summaries.jsonl

precis corpus --text-field body --max-rejected 100 articles.jsonl.zst summaries.jsonl.zst

precis corpus --ray auto --replicas 8 articles.parquet summaries.parquet
"""
CLUSTER = "On a cluster"


def corpus(
    input_file: Annotated[
        Path, typer.Argument(metavar="INPUT", show_default=False, help="*.jsonl, *.jsonl.zst, *.jsonl.gz or *.parquet.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", show_default=False, help="The same, compressed or not; not there yet.")
    ],
    text_field: Annotated[str, typer.Option(help="Field or column with the text.")] = "text",
    summary_field: Annotated[
        str, typer.Option(help="Field or column for the summary; what is told of it is in [bold]NAME_details[/].")
    ] = "summary",
    drop_text: Annotated[bool, typer.Option("--drop-text", help="Leave the text out of the output.")] = False,
    max_rejected: Annotated[
        int | None, typer.Option(min=0, help="Stop when more rows than that are set aside. [dim]\\[default: never][/]")
    ] = None,
    model: ModelName = None,
    truncation: Cut = "head",
    num_beams: NumBeams = None,
    max_length: MaxLength = None,
    min_length: MinLength = None,
    length_penalty: LengthPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    numbers_from_source: NumbersFromSource = None,
    repetition_penalty: RepetitionPenalty = None,
    early_stopping: EarlyStopping = None,
    model_store: Store = None,
    device: Device = None,
    precision: Precision = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=CLUSTER,
            help="A Ray cluster that this machine belongs to: auto, or HOST:PORT; local starts one here.",
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=CLUSTER, help="Engines, each on a GPU or a core. [dim]\\[default: all there are][/]"
        ),
    ] = None,
) -> None:
    """Summarize every row of a file, and write the rows with their summaries to another one.

    A run that was ended, however it was, goes on where it was: with the same command. Rows that cannot be summarized
    are set aside, with the reason, in OUTPUT.rejected.jsonl; the others are written in the order of the input.
    """
    if replicas is not None and ray is None:
        raise typer.BadParameter("--replicas is for a cluster, which --ray names")
    chosen = parameters(
        num_beams=num_beams,
        max_length=max_length,
        min_length=min_length,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        numbers_from_source=numbers_from_source,
        repetition_penalty=repetition_penalty,
        early_stopping=early_stopping,
    )
    options = Options(model=model, parameters=chosen, truncation=truncation)
    settings = settings_of(model=model, model_store=model_store, device=device, precision=precision)
    let_waiting_threads_sleep()
    # Only now: a wrong setting is told at once, what they need takes seconds to load.
    from app.corpus.formats import open_corpus
    from app.corpus.run import Job, run
    from app.corpus.shards import Layout
    from app.corpus.work_folder import work_on

    # The engine logs how a text made the model fail; of each such text is told where it is set aside.
    logging.getLogger("app").addHandler(logging.NullHandler())
    layout = Layout(text_field, summary_field, not drop_text, parts=truncation == "chunk")
    found = open_corpus(input_file, output, layout)
    job = Job(found, options, settings, max_rejected)
    with work_on(output) as folder, _ends_at_once(output), pace() as progress:
        found.check()
        with _workers(ray, replicas, settings, options, layout.pointer) as workers:
            count = run(job, folder, workers, progress)
            pace_told = f"{progress.rate:.0f} rows/s, {workers.told}"
    say(f"{output}: {count.summaries:,} summaries by {workers.info.name}, {workers.info.digest}; {pace_told}")
    if count.set_aside:
        say(f"{folder.rejected}: {count.set_aside:,} rows that were set aside")


def _workers(
    address: str | None, replicas: int | None, settings: Settings, options: Options, pointer: str
) -> "AbstractContextManager[Workers]":
    if address is None:
        from app.corpus.local import Local

        return Local(settings, options, pointer)
    try:
        from app.corpus.cluster import Cluster
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("app"):
            raise
        raise ConfigurationError("--ray: Ray is not installed; say pip install 'precis[ray]'") from error
    return Cluster(address, replicas, settings, options, pointer)


@contextmanager
def _ends_at_once(output: Path) -> Iterator[None]:
    """On Ctrl-C and SIGTERM. What is finished is kept."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:
        say(f"{output}: not finished yet; the same command goes on where it was")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

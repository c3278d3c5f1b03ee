"""`precis summarize`: texts in, summaries out, in order."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from app.cli import inputs
from app.cli.backend import Answer, Backend, Where, open_backend
from app.cli.inputs import Input
from app.cli.options import (
    ApiKey,
    Cut,
    Device,
    EarlyStopping,
    Json,
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
    Url,
    parameters,
)
from app.cli.output import complain, harmless, say, told
from app.cli.progress import progress
from app.errors import InputError, PrecisError
from app.schemas import Options, Summary

EXAMPLES = """[bold]Examples[/bold]

precis summarize article.txt

curl -s https://example.org/article.txt | precis summarize

precis summarize --json news/*.txt > summaries.jsonl

precis summarize --field text articles.jsonl

precis summarize --url http://127.0.0.1:8000 --model news-zh article.txt
"""


def summarize(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", show_default=False, help="UTF-8 files, each one text; - is standard input."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Every line is a text; one summary a line comes out.")] = False,
    field: Annotated[
        str | None, typer.Option(help="Every line is a JSON object with the text in this field (JSON Lines).")
    ] = None,
    json: Json = False,
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
    url: Url = None,
    api_key: ApiKey = None,
    model_store: Store = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Summarize files, standard input, or every line of them.

    A text that cannot be summarized is one line on standard error and exit status 1; the others are answered.
    """
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
    names = files or [inputs.STANDARD_INPUT]
    each_line = lines or field is not None
    texts = inputs.read(names, lines=each_line, field=field)
    show = _json if json else _named if len(names) > 1 and not each_line else _plain
    failed = False
    with (
        open_backend(Where(url, model, model_store, device, precision, api_key)) as backend,
        progress(None if each_line else len(names)) as advance,
    ):
        for place, answer in answered(backend, texts, options):
            advance()
            failed = failed or isinstance(answer, PrecisError)
            _remark(place, answer, json)
            line = show(place, answer)
            if line is not None:
                print(line, flush=True)
    if failed:
        raise typer.Exit(1)


def answered(backend: Backend, texts: Iterable[Input], options: Options) -> Iterator[tuple[Input, Answer]]:
    """Every input with its answer, in order. Only those that could be read are asked for."""
    asked: deque[Input] = deque()

    def readable() -> Iterator[str]:
        for each in texts:
            asked.append(each)
            if isinstance(each.text, str):
                yield each.text

    for answer in backend.summarize_all(readable(), options):
        yield from _unreadable(asked)
        yield asked.popleft(), answer
    yield from _unreadable(asked)


def _unreadable(asked: deque[Input]) -> Iterator[tuple[Input, Answer]]:
    while asked and isinstance(reason := asked[0].text, InputError):
        yield asked.popleft(), reason


def _remark(place: Input, answer: Answer, json: bool) -> None:
    """What is wrong, and what was not read: nothing is cut silently."""
    if isinstance(answer, PrecisError):
        complain(answer, place.place)
    elif answer.source.truncated and not json:
        source = answer.source
        part = f"the first {source.used_characters} of {source.characters} characters were read"
        say(f"{place.place}: {part}; --truncation chunk reads all")


def _plain(place: Input, answer: Answer) -> str | None:
    """For every line of the input one, so that they belong together."""
    if isinstance(answer, Summary):
        return harmless(answer.summary)
    return None if place.line is None else ""


def _named(place: Input, answer: Answer) -> str | None:
    return f"{harmless(place.file)}: {harmless(answer.summary)}" if isinstance(answer, Summary) else None


def _json(place: Input, answer: Answer) -> str:
    import orjson

    found = {"file": inputs.named(place.file)} | ({} if place.line is None else {"line": place.line})
    content = answer.model_dump(exclude_none=True) if isinstance(answer, Summary) else {"error": told(answer)}
    return orjson.dumps(found | content).decode()

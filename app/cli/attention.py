"""`precis attention`: what each word of a summary was made from, in the terminal, as a picture or as a page."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from app.cli import inputs
from app.cli.backend import Where, open_backend
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
from app.cli.output import told
from app.cli.places import view
from app.errors import FieldError, InputError, InvalidRequestError
from app.schemas import AttentionRequest

WHICH = "Which attention, where a model has several"
Layers = Annotated[
    list[int] | None, typer.Option(min=0, rich_help_panel=WHICH, help="A layer of the decoder, from 0; several times.")
]
Heads = Annotated[
    list[int] | None, typer.Option(min=0, rich_help_panel=WHICH, help="A head of these layers, from 0; several times.")
]
EXAMPLES = """[bold]Examples[/bold]

precis attention article.txt

precis attention --summary "Flights cancelled after computer failure" article.txt

precis attention --html attention.html --png attention.png article.txt

precis attention --level token --json < article.txt
"""


def attention(
    file: Annotated[str, typer.Argument(help="A UTF-8 file; - is standard input.")] = inputs.STANDARD_INPUT,
    summary: Annotated[
        str | None, typer.Option(help="The attention of this summary instead of a generated one.")
    ] = None,
    level: Annotated[Literal["word", "token"], typer.Option(help="What rows and columns are.")] = "word",
    top: Annotated[int, typer.Option(min=1, max=20, help="Words of the text shown for each of the summary.")] = 3,
    layers: Layers = None,
    heads: Heads = None,
    reduce: Annotated[
        Literal["mean", "max"] | None, typer.Option(rich_help_panel=WHICH, help="How several heads become one.")
    ] = None,
    drop_sinks: Annotated[
        bool, typer.Option("--drop-sinks", rich_help_panel=WHICH, help="Take the weight off punctuation.")
    ] = False,
    json: Json = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page that needs nothing else, to look at and pass on.")
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the matrix as a picture.")] = None,
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
    """Summarize a text and show where the model looked while it wrote each word.

    Attention tells where a word came from, which is not always why it was written.
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
    if png is not None:
        from app.cli.picture import draw  # first: what it needs may be missing
    (given,) = inputs.read([file], lines=False)
    if isinstance(given.text, InputError):
        raise InputError(f"{file}: {told(given.text)}")
    which = {"layers": layers, "heads": heads, "reduce": reduce, "drop_sinks": drop_sinks or None}
    request = _request(
        text=given.text,
        summary=summary,
        level=level,
        model=model,
        parameters=chosen,
        truncation=truncation,
        **{name: value for name, value in which.items() if value is not None},
    )
    with open_backend(Where(url, model, model_store, device, precision, api_key)) as backend:
        response = backend.attention(request)
    seen = view(given.text, response)
    if png is not None:
        draw(seen, png)
    if html is not None:
        from app.cli.page import page

        html.write_text(page(seen, response), encoding="utf-8")
    if json:
        print(response.model_dump_json(exclude_none=True))
    elif png is None and html is None:
        from app.cli.heatmap import show

        show(seen, response, top)


def _request(**fields: object) -> AttentionRequest:
    """Raises InvalidRequestError, as the API answers."""
    try:
        return AttentionRequest.model_validate(fields)
    except ValidationError as error:
        wrong = tuple(FieldError(f"/{each['loc'][0]}", each["msg"]) for each in error.errors())
        raise InvalidRequestError("the request is wrong", wrong) from error

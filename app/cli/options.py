"""Options that several commands share. Names and meaning are those of the API and of the settings."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.config import Settings, load_settings
from app.schemas import Parameters, Truncation

HERE, SEARCH = "Where the work is done", "How the summary is searched for"

Url = Annotated[
    str | None,
    typer.Option(
        envvar="PRECIS_URL",
        rich_help_panel=HERE,
        help="A running service, such as http://127.0.0.1:8000. Without it the work is done here.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="PRECIS_API_KEY",
        rich_help_panel=HERE,
        help="For that service, where it wants one. In the environment others on this machine do not see it.",
    ),
]
ModelName = Annotated[
    str | None, typer.Option("--model", "-m", help="Name of the checkpoint. [dim]\\[default: PRECIS_MODEL, news-en][/]")
]
Store = Annotated[
    Path | None,
    typer.Option(
        "--model-store",
        rich_help_panel=HERE,
        help="Folder of checkpoints. [dim]\\[default: PRECIS_MODEL_STORE, model_store][/]",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(rich_help_panel=HERE, help="auto, cpu, cuda or cuda:N. [dim]\\[default: PRECIS_DEVICE, auto][/]"),
]
Precision = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=HERE, help="auto, float32, bfloat16 or int8. [dim]\\[default: PRECIS_PRECISION, auto][/]"
    ),
]
NumBeams = Annotated[
    int | None,
    typer.Option(min=1, max=8, rich_help_panel=SEARCH, help="Hypotheses that are followed at once; 1 is greedy."),
]
MaxLength = Annotated[int | None, typer.Option(min=1, rich_help_panel=SEARCH, help="Most tokens of the summary.")]
MinLength = Annotated[int | None, typer.Option(min=0, rich_help_panel=SEARCH, help="Fewest tokens of the summary.")]
LengthPenalty = Annotated[
    float | None,
    typer.Option(min=-10, max=10, rich_help_panel=SEARCH, help="Above 0 favours longer summaries, below 0 shorter."),
]
NoRepeatNgramSize = Annotated[
    int | None,
    typer.Option(min=0, max=100, rich_help_panel=SEARCH, help="No sequence of so many tokens occurs twice; 0: all."),
]
NumbersFromSource = Annotated[
    bool | None,
    typer.Option(
        "--numbers-from-source/--any-numbers", rich_help_panel=SEARCH, help="Write no number that the text has not."
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(min=1, max=10, rich_help_panel=SEARCH, help="Above 1, what is written already is less likely."),
]
EarlyStopping = Annotated[
    Literal["true", "false", "never"] | None,
    typer.Option(rich_help_panel=SEARCH, help="When beams stop: at once, when none is better, when none can be."),
]
Cut = Annotated[
    Truncation,
    typer.Option(
        "--truncation",
        help="When a text is too long: keep its [bold]head[/], make it an [bold]error[/], or summarize every "
        "[bold]chunk[/] of it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of text: the object that the API answers.")]


def settings_of(**chosen: object) -> Settings:
    """What was chosen; the rest is the environment's. Raises ConfigurationError."""
    return load_settings(**{name: value for name, value in chosen.items() if value is not None})


def parameters(*, early_stopping: str | None, **chosen: float | None) -> Parameters:
    """What was chosen; the rest is the checkpoint's own."""
    stopping = {"true": True, "false": False}.get(early_stopping or "", early_stopping)
    every = {**chosen, "early_stopping": stopping}
    return Parameters.model_validate({name: value for name, value in every.items() if value is not None})

"""Who does the work: an engine of our own, or a running service. Both answer with the same objects."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import typer

from app.config import let_waiting_threads_sleep, load_settings
from app.errors import PrecisError
from app.schemas import AttentionRequest, AttentionResponse, Model, ModelList, Options, Summary

Answer = Summary | PrecisError


class Backend(Protocol):
    """What the commands need. What is wrong with a whole request is raised as PrecisError."""

    def summarize_all(self, texts: Iterable[str], options: Options) -> Iterator[Answer]:
        """One answer for each text, in order, while later texts are still read. What is wrong stands in its place."""

    def attention(self, request: AttentionRequest) -> AttentionResponse:
        """A summary and its attention."""

    def models(self) -> ModelList:
        """All models and the default one."""

    def model(self, name: str) -> Model:
        """One of them."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where the work is to be done: at a service, or here with these settings instead of the environment's."""

    url: str | None
    model: str | None = None
    model_store: Path | None = None
    device: str | None = None
    precision: str | None = None
    api_key: str | None = None


def open_backend(where: Where) -> AbstractContextManager[Backend]:
    """Imports what the choice needs and no more. Raises ConfigurationError when a setting is wrong."""
    local = {"model_store": where.model_store, "device": where.device, "precision": where.precision}
    chosen = {name: value for name, value in local.items() if value is not None}
    if where.url is None:
        let_waiting_threads_sleep()
        from app.cli.local import Local

        return Local(load_settings(**chosen, **({"model": where.model} if where.model else {})))
    if chosen:
        option = "--" + next(iter(chosen)).replace("_", "-")
        raise typer.BadParameter(f"{option} is for an engine of our own; the service at {where.url} has chosen")
    from app.cli.remote import Remote

    try:
        return Remote(where.url, where.api_key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url, --api-key") from error

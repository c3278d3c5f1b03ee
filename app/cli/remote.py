"""The work done by a running service."""

from collections.abc import Iterable, Iterator
from typing import Self, cast

from app.cli.backend import Answer
from app.client import AttentionOptions, Client, ConnectionFailedError
from app.client import Options as ClientOptions
from app.schemas import AttentionRequest, AttentionResponse, Model, ModelList, Options

AT_ONCE = 16  # requests; with four beams they fill the rows of a service on a CPU


class Remote:
    """A backend at a URL. Raises ValueError when that is none, or the key cannot be sent."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._client = Client(url, api_key=api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.close()

    def summarize_all(self, texts: Iterable[str], options: Options) -> Iterator[Answer]:
        """A service that cannot be reached after several attempts is given up for all texts."""
        for answer in self._client.summarize_all(texts, concurrency=AT_ONCE, **_chosen(options)):
            if isinstance(answer, ConnectionFailedError):
                raise answer
            yield answer

    def attention(self, request: AttentionRequest) -> AttentionResponse:
        own = AttentionRequest.model_fields.keys() - {"text", *Options.model_fields}
        shown = request.model_dump(include=own, exclude_unset=True)
        chosen = {**_chosen(request), **shown}
        return self._client.attention(request.text, **cast(AttentionOptions, chosen))

    def models(self) -> ModelList:
        return self._client.models()

    def model(self, name: str) -> Model:
        return self._client.model(name)


def _chosen(options: Options) -> ClientOptions:
    chosen = {"model": options.model, "truncation": options.truncation, **options.parameters.model_dump()}
    return cast(ClientOptions, chosen)

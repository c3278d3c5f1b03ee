"""Both clients behind one face, so that every fact is tested of both."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
from typing import Any, Self, TypeVar

from app.client import (
    AsyncClient,
    AttentionResponse,
    Client,
    Model,
    ModelList,
    PrecisError,
    Summary,
    TokenEvent,
)

T = TypeVar("T")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, oversleeps: float = 0.0) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._oversleeps = oversleeps

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self._oversleeps

    async def wait(self, seconds: float) -> None:
        self.sleep(seconds)


class Awaited:
    """An `AsyncClient` with the face of a `Client`; its event loop runs while one of the methods does."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **options)

    def summarize(self, text: str, **options: Any) -> Summary:
        return self._run(self._client.summarize(text, **options))

    def attention(self, text: str, **options: Any) -> AttentionResponse:
        return self._run(self._client.attention(text, **options))

    def stream(self, text: str, **options: Any) -> Generator[TokenEvent | Summary]:
        return self._iterate(self._client.stream(text, **options))

    def summarize_all(self, texts: Iterable[str], **options: Any) -> Generator[Summary | PrecisError]:
        return self._iterate(self._client.summarize_all(texts, **options))

    def models(self) -> ModelList:
        return self._run(self._client.models())

    def model(self, name: str) -> Model:
        return self._run(self._client.model(name))

    def ready(self) -> bool:
        return self._run(self._client.ready())

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._client.__aexit__(*error))
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _iterate(self, generator: AsyncGenerator[T]) -> Generator[T]:
        async def following() -> T:
            return await anext(generator)

        try:
            while True:
                try:
                    item = self._run(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._run(generator.aclose())


Either = Client | Awaited


def connected(kind: str, url: str, clock: Clock | None = None, **options: Any) -> Either:
    """A client of this kind; with a clock, its time is that clock's."""
    if clock is not None:
        options |= {"clock": clock, "sleep": clock.sleep if kind == "blocking" else clock.wait}
    return Client(url, **options) if kind == "blocking" else Awaited(url, **options)

"""The two clients: `AsyncClient` is the calls themselves, `Client` runs each of them to its end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Self, Unpack

import httpx2

from app.client.calls import AttentionOptions, Options
from app.client.core import Calls
from app.client.wires import Asynchronous, Blocking, iterate, run
from app.errors import PrecisError
from app.schemas import AttentionResponse, Model, ModelList, Summary, TokenEvent


class AsyncClient(Calls):
    """A client for asyncio. See `Client`: arguments and methods are the same, to be awaited."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        http: httpx2.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owned = http is None
        self._http = http or httpx2.AsyncClient()
        wire = Asynchronous(self._http, sleep)
        super().__init__(wire, url, api_key=api_key, timeout=timeout, retries=retries, clock=clock)

    async def aclose(self) -> None:
        """Close the connections; not those of a client that was passed in."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()


class Client:
    """A blocking client. Threads may share it.

    `timeout` in seconds is the deadline of a call over all its attempts; the service is told what is left of it. After
    429, 503 and broken connections a call is tried again, at most `retries` times, not before `Retry-After` has passed
    and never beyond the deadline. `http` brings your own proxies, certificates or transport; it stays yours to close.
    `sleep` and `clock` are for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        http: httpx2.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owned = http is None
        self._http = http or httpx2.Client()
        wire = Blocking(self._http, sleep)
        self._calls = Calls(wire, url, api_key=api_key, timeout=timeout, retries=retries, clock=clock)

    def summarize(self, text: str, **options: Unpack[Options]) -> Summary:
        """The summary of one text."""
        return run(self._calls.summarize(text, **options))

    def attention(self, text: str, **options: Unpack[AttentionOptions]) -> AttentionResponse:
        """A summary, generated or given, and the attention behind it."""
        return run(self._calls.attention(text, **options))

    def stream(self, text: str, **options: Unpack[Options]) -> Generator[TokenEvent | Summary]:
        """The tokens of a summary while it is written, then the summary. Leaving it closes the connection."""
        return iterate(self._calls.stream(text, **options))

    def summarize_all(
        self, texts: Iterable[str], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> Generator[Summary | PrecisError]:
        """For every text its summary, or the error in its place, in order; at most `concurrency` requests at once."""
        return iterate(self._calls.summarize_all(texts, concurrency=concurrency, **options))

    def models(self) -> ModelList:
        """The models that are loaded."""
        return run(self._calls.models())

    def model(self, name: str) -> Model:
        """One of them."""
        return run(self._calls.model(name))

    def ready(self) -> bool:
        """Whether work is taken. Asks once."""
        return run(self._calls.ready())

    def close(self) -> None:
        """Close the connections; not those of a client that was passed in."""
        if self._owned:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

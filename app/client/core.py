"""The calls, written once over a `Wire`: attempts until one succeeds, all within one deadline."""

import math
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from typing import TypeVar, Unpack

import httpx2

from app import __version__
from app.client import calls
from app.client.answers import refusal, result, streamed
from app.client.calls import A, AttentionOptions, Call, Options
from app.client.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    OverloadedError,
    TooManyRequestsError,
    UnexpectedAnswerError,
)
from app.client.retries import Deadline, pause
from app.client.wires import Wire
from app.errors import PrecisError
from app.schemas import AttentionResponse, Model, ModelList, Summary, TokenEvent

CONNECT_SECONDS = 5.0  # of each attempt: the next one may reach another machine
BEGUN_AHEAD = 2  # times the concurrency: one slow text at the head does not idle the others

T = TypeVar("T")
Reader = Callable[[httpx2.Response, Deadline], AsyncGenerator[T]]


class Calls:
    """What a client can do.

    Every call raises ApiError and its kinds, DeadlineExceededError, ConnectionFailedError and UnexpectedAnswerError.
    """

    def __init__(
        self,
        wire: Wire,
        url: str,
        *,
        api_key: str | None,
        timeout: float,
        retries: int,
        clock: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._url, self._host = _checked(url)
        self._headers = {"User-Agent": f"precis/{__version__}", "Content-Type": "application/json", **_key(api_key)}
        self._timeout = timeout
        self._retries = retries
        self._clock = clock

    async def summarize(self, text: str, **options: Unpack[Options]) -> Summary:
        """The summary of one text."""
        return await self._call(calls.summarize(text, options))

    async def attention(self, text: str, **options: Unpack[AttentionOptions]) -> AttentionResponse:
        """A summary, generated or given, and the attention behind it."""
        return await self._call(calls.attention(text, options))

    def stream(self, text: str, **options: Unpack[Options]) -> AsyncGenerator[TokenEvent | Summary]:
        """The tokens of a summary while it is written, then the summary. Leaving it closes the connection.

        Nothing is tried again after the first token.
        """
        return self._attempts(calls.stream(text, options), self._events)

    async def summarize_all(
        self, texts: Iterable[str], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> AsyncGenerator[Summary | PrecisError]:
        """For every text its summary, or the error in its place, in order.

        At most `concurrency` requests at once, each with a deadline of its own. Texts are taken as they are needed, so
        that there may be any number.
        """
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        begun = deque[Callable[[], Awaitable[Summary | PrecisError]]]()
        async with self._wire.workers(concurrency) as start:
            for text in texts:
                begun.append(start(partial(self._settled, text, options)))
                if len(begun) == BEGUN_AHEAD * concurrency:
                    yield await begun.popleft()()
            while begun:
                yield await begun.popleft()()

    async def models(self) -> ModelList:
        """The models that are loaded."""
        return await self._call(calls.models())

    async def model(self, name: str) -> Model:
        """One of them."""
        return await self._call(calls.model(name))

    async def ready(self) -> bool:
        """Whether work is taken. Asks once."""
        try:
            await self._call(calls.ready())
        except (OverloadedError, ConnectionFailedError, DeadlineExceededError):
            return False
        return True

    async def _settled(self, text: str, options: Options) -> Summary | PrecisError:
        try:
            return await self.summarize(text, **options)
        except PrecisError as error:
            return error

    async def _call(self, call: Call[A]) -> A:
        async def answer(response: httpx2.Response, deadline: Deadline) -> AsyncGenerator[A]:
            yield result(call.answer, await self._body(response, deadline))

        async with aclosing(self._attempts(call, answer)) as answers:
            return await anext(answers)

    async def _attempts(self, call: Call[A], read: Reader[T]) -> AsyncGenerator[T]:
        """What `read` makes of the answer. Tried again as long as none of it was handed on."""
        deadline = self._deadline(call)
        failures: list[PrecisError] = []
        while True:
            begun = False
            try:
                async with self._exchange(call, deadline) as response, aclosing(read(response, deadline)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except DeadlineExceededError as error:
                if failures:
                    raise error from failures[-1]
                raise
            except (ConnectionFailedError, TooManyRequestsError, OverloadedError) as error:
                failures.append(error)
                seconds = pause(len(failures), error.retry_after, deadline.left, random.random())
                if begun or seconds is None or not call.retried or len(failures) > self._retries:
                    raise
                await self._wire.sleep(seconds)

    @asynccontextmanager
    async def _exchange(self, call: Call[A], deadline: Deadline) -> AsyncIterator[httpx2.Response]:
        """One request and the answer to it, when that is a good one."""
        with self._as_our_errors(deadline):
            response = await self._wire.send(self._request(call, deadline))
            try:
                if response.status_code != HTTPStatus.OK:
                    raise refusal(response.status_code, response.headers, await self._body(response, deadline))
                yield response
            finally:
                await self._wire.close(response)

    def _request(self, call: Call[A], deadline: Deadline) -> httpx2.Request:
        deadline.check()
        left = deadline.left
        return self._wire.http.build_request(
            call.method,
            self._url + call.path,
            content=call.content(left),
            headers={**self._headers, "Accept": call.accept},
            timeout=httpx2.Timeout(left, connect=min(left, CONNECT_SECONDS)),
        )

    @contextmanager
    def _as_our_errors(self, deadline: Deadline) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectTimeout as error:
            raise ConnectionFailedError(f"{self._host} did not take the connection in time") from error
        except httpx2.TimeoutException as error:
            raise deadline.passed() from error
        except (httpx2.SSEError, httpx2.DecodingError, httpx2.TooManyRedirects) as error:
            raise UnexpectedAnswerError(f"{self._host}: {error}") from error
        except httpx2.TransportError as error:
            raise ConnectionFailedError(f"{self._host}: {str(error) or type(error).__name__}") from error

    async def _body(self, response: httpx2.Response, deadline: Deadline) -> bytes:
        body = bytearray()
        async for chunk in self._wire.chunks(response):
            deadline.check()
            body += chunk
        return bytes(body)

    async def _events(self, response: httpx2.Response, deadline: Deadline) -> AsyncGenerator[TokenEvent | Summary]:
        summary = None
        async for event in self._wire.events(response):
            deadline.check()
            item = streamed(event)
            if isinstance(item, Summary):
                summary = item
            elif item is not None:
                yield item
        if summary is None:
            raise ConnectionFailedError("the stream ended before its summary")
        yield summary

    def _deadline(self, call: Call[A]) -> Deadline:
        seconds = self._timeout if call.timeout is None else call.timeout
        if not 0 < seconds < math.inf:
            raise ValueError("timeout must be a number of seconds above 0")
        return Deadline(seconds, self._clock() + seconds, self._clock)


def _checked(url: str) -> tuple[str, str]:
    """The URL that paths are added to; and its host and port, for errors, without a password that may be in it."""
    wrong = "the URL must begin with http:// or https:// and end with a host or a path, as in http://127.0.0.1:8000"
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{wrong}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ValueError(wrong)
    return url.rstrip("/"), parsed.netloc.decode()


def _key(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if not api_key or not api_key.isascii() or not api_key.isprintable() or api_key != api_key.strip():
        # Not left to the HTTP library, whose error would tell the key.
        raise ValueError("the API key must be printable ASCII without white space at its edges, such as a line break")
    return {"Authorization": f"Bearer {api_key}"}

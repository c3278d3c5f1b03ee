"""What differs between the two clients: how they send, read, wait and work side by side.

All of it is written as coroutines, those of `Blocking` too, which block instead of waiting. So the logic above can be
written once, as coroutines over a `Wire`: over `Asynchronous` an event loop runs them, over `Blocking` they never
wait, and `run` brings them to their end in one step.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import httpx2

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]
Start = Callable[[Work[T]], Callable[[], Awaitable[T]]]  # begins the work; what it returns waits for the result


class Wire(Protocol):
    """An HTTP client, and the rest of the world as far as a call needs it."""

    @property
    def http(self) -> httpx2.Client | httpx2.AsyncClient: ...

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """The answer's head; its body is still to be read, and it must be closed."""
        ...

    def chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]: ...

    def events(self, response: httpx2.Response) -> AsyncIterator[httpx2.ServerSentEvent]: ...

    async def close(self, response: httpx2.Response) -> None: ...

    async def sleep(self, seconds: float) -> None: ...

    def workers(self, count: int) -> AbstractAsyncContextManager[Start[Any]]:
        """At most `count` works at once; those not begun at the end of the context are never begun."""
        ...


class Blocking:
    """Over a blocking HTTP client; works run side by side in threads."""

    def __init__(self, http: httpx2.Client, sleep: Callable[[float], None]) -> None:
        self.http = http
        self._sleep = sleep

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        return self.http.send(request, stream=True)

    def chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        return _each(response.iter_bytes())

    def events(self, response: httpx2.Response) -> AsyncIterator[httpx2.ServerSentEvent]:
        return _each(httpx2.EventSource(response))

    async def close(self, response: httpx2.Response) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    @asynccontextmanager
    async def workers(self, count: int) -> AsyncIterator[Start[Any]]:
        with ThreadPoolExecutor(count, "precis-client") as pool:

            def start(work: Work[T]) -> Callable[[], Awaitable[T]]:
                future = pool.submit(lambda: run(work()))

                async def wait() -> T:
                    return future.result()

                return wait

            try:
                yield start
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # leaving the pool waits for what has begun


class Asynchronous:
    """Over an asynchronous HTTP client; works run side by side as tasks."""

    def __init__(self, http: httpx2.AsyncClient, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.http = http
        self._sleep = sleep

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        return await self.http.send(request, stream=True)

    def chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        return response.aiter_bytes()

    def events(self, response: httpx2.Response) -> AsyncIterator[httpx2.ServerSentEvent]:
        return httpx2.EventSource(response).__aiter__()

    async def close(self, response: httpx2.Response) -> None:
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)

    @asynccontextmanager
    async def workers(self, count: int) -> AsyncIterator[Start[Any]]:
        turn, tasks = asyncio.Semaphore(count), set[asyncio.Task[Any]]()

        async def in_turn(work: Work[T]) -> T:
            async with turn:
                return await work()

        def start(work: Work[T]) -> Callable[[], Awaitable[T]]:
            task = asyncio.create_task(in_turn(work))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return lambda: task

        try:
            yield start
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def run(awaitable: Awaitable[T]) -> T:
    """The result of what never waits."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a coroutine over a blocking wire waits for something")


def iterate(generator: AsyncGenerator[T]) -> Generator[T]:
    """The items of a generator that never waits. It is closed when the caller leaves."""
    try:
        while True:
            try:
                item = run(anext(generator))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(generator.aclose())


async def _each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item

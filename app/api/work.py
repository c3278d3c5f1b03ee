"""Hands work to an engine and waits for it, as long as the caller does."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from app.api.record import record_of
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.errors import DeadlineExceededError

Result = Summary | BaseException
TOKENIZED_AT_ONCE = 4000  # characters: half a millisecond where all words are known, two where none is
MARGIN_SECONDS = 1.0  # the engine tells of a deadline itself, between two steps; beyond this it hangs


async def summarize(request: Request, engine: Engine, work: SummaryRequest) -> Summary:
    """One text; what is wrong with it is raised."""
    (result,) = await summarize_all(request, engine, [work])
    if isinstance(result, BaseException):
        raise result
    return result


async def summarize_all(request: Request, engine: Engine, work: Sequence[SummaryRequest]) -> list[Result]:
    """Several texts; what is wrong with one stands in its place. A caller who leaves frees its rows.

    Nobody waits for an engine that hangs: what is not there soon after the deadline has missed it.
    """
    timeout = max((each.timeout for each in work), default=0.0)
    end = time.monotonic() + timeout + MARGIN_SECONDS
    record = record_of(request)
    await record.ask(len(work), sum(len(each.text) for each in work))
    futures = await _submit(engine, work)
    loop = asyncio.get_running_loop()
    over = loop.create_future()  # all are answered, the caller has left, or it is too late

    def wake(*_: object) -> None:
        if not over.done():
            over.set_result(None)

    _when_all_are_done(futures, lambda: loop.call_soon_threadsafe(wake))
    leaving = asyncio.create_task(_leaving(request))
    leaving.add_done_callback(wake)
    late = loop.call_later(end - time.monotonic(), wake)
    try:
        await over
        if leaving.done() and not all(future.done() for future in futures):
            raise ClientDisconnect
        results = [result_of(future, timeout) for future in futures]
        record.answer(result.timing for result in results if isinstance(result, Summary))
        return results
    finally:
        late.cancel()
        leaving.cancel()
        _cancel(futures)


async def _submit(engine: Engine, work: Sequence[SummaryRequest]) -> list[Future[Summary]]:
    """Tokenizing a long text would block the event loop."""
    if sum(len(each.text) + len(each.given or "") for each in work) > TOKENIZED_AT_ONCE:
        return await run_in_threadpool(engine.submit, work)
    return engine.submit(work)


def _when_all_are_done(futures: Sequence[Future[Summary]], tell: Callable[[], object]) -> None:
    """Once or twice, and from any thread."""
    pending = list(futures)

    def count(_: object) -> None:
        pending.pop()
        if not pending:
            tell()

    for future in futures:
        future.add_done_callback(count)
    if not futures:
        tell()


def result_of(future: Future[Summary], timeout: float) -> Result:
    """What a future holds, or that it is too late for it."""
    if not future.done():
        return DeadlineExceededError(f"The summary was not ready after {timeout:g} s.")
    return future.exception() or future.result()


def _cancel(futures: Sequence[Future[Summary]]) -> None:
    for future in futures:
        future.cancel()


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

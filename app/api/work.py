"""Hands work to an engine and waits for it, as long as the caller does."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from app.api.record import record_of
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.errors import DeadlineExceededError

Result = Summary | BaseException
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
    record.texts, record.characters = len(work), sum(len(each.text) for each in work)
    futures = await run_in_threadpool(engine.submit, work)  # tokenizing takes a while
    answers = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    leaving = asyncio.create_task(_leaving(request))
    try:
        left = max(0.0, end - time.monotonic())
        await asyncio.wait((answers, leaving), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not answers.done():
            raise ClientDisconnect
        return [_result(future, timeout) for future in futures]
    finally:
        leaving.cancel()
        _cancel(futures)


def _result(future: Future[Summary], timeout: float) -> Result:
    if not future.done():
        return DeadlineExceededError(f"The summary was not ready after {timeout:g} s.")
    return future.exception() or future.result()


def _cancel(futures: Sequence[Future[Summary]]) -> None:
    for future in futures:
        future.cancel()


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

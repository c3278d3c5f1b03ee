"""Hands work to an engine and waits for it, as long as the caller does."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from app.api.record import record_of
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest

Result = Summary | BaseException


async def summarize(request: Request, engine: Engine, work: SummaryRequest) -> Summary:
    """One text; what is wrong with it is raised."""
    (result,) = await summarize_all(request, engine, [work])
    if isinstance(result, BaseException):
        raise result
    return result


async def summarize_all(request: Request, engine: Engine, work: Sequence[SummaryRequest]) -> list[Result]:
    """Several texts; what is wrong with one stands in its place. A caller who leaves frees its rows."""
    record = record_of(request)
    record.texts, record.characters = len(work), sum(len(each.text) for each in work)
    futures = await run_in_threadpool(engine.submit, work)  # tokenizing takes a while
    answers = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    leaving = asyncio.create_task(_leaving(request))
    try:
        await asyncio.wait((answers, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ClientDisconnect
        return answers.result()
    finally:
        leaving.cancel()
        _cancel(futures)


def _cancel(futures: Sequence[Future[Summary]]) -> None:
    for future in futures:
        future.cancel()


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

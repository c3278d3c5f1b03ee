"""What takes long is done in a thread, so that the event loop goes on; what is short is done at once.

Going to a thread and back takes as long as some hundred microseconds of work would.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from anyio.to_thread import current_default_thread_limiter
from starlette.concurrency import run_in_threadpool

THREADS = 4  # they share one interpreter, with the event loop and with the model's own
ResultT = TypeVar("ResultT")
Arguments = ParamSpec("Arguments")


async def by_size(size: int, at_once: int, work: Callable[[], ResultT]) -> ResultT:
    """In a thread if its size is above what is done at once."""
    return work() if size <= at_once else await run_in_threadpool(work)


async def in_own_thread(
    work: Callable[Arguments, ResultT], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> ResultT:
    """What may wait for very long, perhaps for what the other threads do."""
    own = ThreadPoolExecutor(1, "precis-waiting")
    try:
        return await asyncio.get_running_loop().run_in_executor(own, partial(work, *args, **kwargs))
    finally:
        own.shutdown(wait=False)


def limit_threads() -> None:
    """Of the running event loop."""
    current_default_thread_limiter().total_tokens = THREADS

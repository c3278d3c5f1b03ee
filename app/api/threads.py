"""What takes long is done in a thread, so that the event loop goes on; what is short is done at once.

Going to a thread and back takes as long as some hundred microseconds of work would.
"""

from collections.abc import Callable
from typing import TypeVar

from anyio.to_thread import current_default_thread_limiter
from starlette.concurrency import run_in_threadpool

THREADS = 4  # they share one interpreter, with the event loop and with the model's own
ResultT = TypeVar("ResultT")


async def by_size(size: int, at_once: int, work: Callable[[], ResultT]) -> ResultT:
    """In a thread if its size is above what is done at once."""
    return work() if size <= at_once else await run_in_threadpool(work)


def limit_threads() -> None:
    """Of the running event loop."""
    current_default_thread_limiter().total_tokens = THREADS

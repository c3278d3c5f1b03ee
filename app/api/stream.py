"""A summary while it is written: server-sent events, from the engine's threads to one reader.

What is not sent yet waits here, one token for each step, so that whoever reads slowly keeps nobody else waiting.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import replace

import orjson
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from app.api.problems import describe, instance_of
from app.api.record import record_of
from app.api.responses import JsonObject, piece_json, summary_json
from app.api.threads import by_size
from app.api.work import MARGIN_SECONDS, TOKENIZED_AT_ONCE, result_of
from app.engine.engine import Engine
from app.engine.pieces import Pieces
from app.engine.request import Summary, SummaryRequest, WrittenToken

SILENCE_SECONDS = 15.0  # after these a comment keeps the connection alive
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy should not wait for more


async def stream(request: Request, engine: Engine, work: SummaryRequest) -> "EventStream":
    """The answer to one text that was admitted. Raises why it was not."""
    await record_of(request).ask(1, len(work.text))
    feed = Feed()
    streamed = replace(work, on_token=feed.tell)
    future, pieces = await by_size(len(work.text), TOKENIZED_AT_ONCE, lambda: engine.stream(streamed))
    future.add_done_callback(feed.end)
    return EventStream(request, feed, future, pieces, work.timeout)


class Feed:
    """Tokens and then their end, told by any thread, taken by the event loop in which this was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._tokens: list[WrittenToken] = []
        self.over = False

    def tell(self, written: WrittenToken) -> None:
        self._loop.call_soon_threadsafe(self._add, written)

    def end(self, *_: object) -> None:
        """Nothing more comes."""
        self._loop.call_soon_threadsafe(self._end)

    @property
    def empty(self) -> bool:
        return not self._tokens

    async def wait(self) -> None:
        """Until there is something new, but not for very long."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass

    def take(self) -> list[WrittenToken]:
        self._news.clear()
        tokens, self._tokens = self._tokens, []
        return tokens

    def _add(self, written: WrittenToken) -> None:
        self._tokens.append(written)
        self._news.set()

    def _end(self) -> None:
        self.over = True
        self._news.set()


class EventStream(EventSourceResponse):
    """Begins with the first token. What goes wrong before is raised; later, or after a long silence, it is an event.

    A reader who leaves frees the row.
    """

    def __init__(self, request: Request, feed: Feed, future: Future[Summary], pieces: Pieces, timeout: float) -> None:
        super().__init__(self._events(), headers=HEADERS)
        self._request = request
        self._feed = feed
        self._future = future
        self._pieces = pieces
        self._timeout = timeout
        self._complete = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hangs = asyncio.get_running_loop().call_later(self._timeout + MARGIN_SECONDS, self._feed.end)
        try:
            await super().__call__(scope, receive, send)
        finally:
            hangs.cancel()
            self._future.cancel()
        if not self._complete:
            raise ClientDisconnect

    async def stream_response(self, send: Send) -> None:
        await self._feed.wait()
        if self._feed.over and self._feed.empty:
            result = result_of(self._future, self._timeout)
            if isinstance(result, BaseException):
                raise result
        await super().stream_response(send)

    async def _events(self) -> AsyncIterator[bytes]:
        over = False
        while not over:
            over, tokens = self._feed.over, self._feed.take()
            for written in tokens:
                for piece in self._pieces.add(written):
                    yield _event("token", piece_json(piece))
                    await asyncio.sleep(0)  # a part of a long text may come all at once
            if not over:
                if not tokens:
                    yield KEEPALIVE_COMMENT
                await self._feed.wait()
        yield self._ending()
        self._complete = True

    def _ending(self) -> bytes:
        result = result_of(self._future, self._timeout)
        if isinstance(result, BaseException):
            last = _event("error", self._problem(result))
        else:
            record = record_of(self._request)
            record.answer([result.timing])
            last = _event("summary", summary_json(result, record.request_id))
        return last + _event("done", {})  # an event without data would not be noticed

    def _problem(self, error: BaseException) -> JsonObject:
        failure, record = describe(error), record_of(self._request)
        record.error, record.status = failure.slug, failure.status
        return failure.document(instance=instance_of(self._request), request_id=record.request_id)


def _event(name: str, data: JsonObject) -> bytes:
    return format_sse_event(event=name, data_str=orjson.dumps(data).decode())

"""What is heard of streams, and who does not read them."""

import asyncio

from app.config import Settings
from app.main import create_app
from benchmarks import streams
from tests.api.sockets import served
from tests.fakes import FakeModel, fake_info

TEXT = "alpha bravo charlie delta echo foxtrot"


def test_every_token_of_every_stream_is_heard() -> None:
    app = create_app(Settings(max_rows=8), models=[FakeModel(fake_info("news-en"))])
    with served(app) as server:
        heard = asyncio.run(streams.listen(server.url, [streams.stream_body(TEXT)], clients=3, seconds=0.2))
    assert heard.errors == 0
    assert heard.answers == len(heard.first) >= 3
    assert heard.tokens % heard.answers == 0
    assert heard.tokens >= len(heard.first) + len(heard.gaps)


def test_what_is_refused_is_an_error() -> None:
    app = create_app(Settings(max_rows=8), models=[FakeModel(fake_info("news-en"))])
    with served(app) as server:
        heard = asyncio.run(streams.listen(server.url, [streams.stream_body(" ")], clients=1, seconds=0.05))
    assert heard.errors > 0
    assert heard.answers == heard.tokens == len(heard.first) == 0


def test_those_who_do_not_read_find_their_streams_complete_when_they_do() -> None:
    app = create_app(Settings(max_rows=8, max_queue=10_000), models=[FakeModel(fake_info("news-en"))])
    with served(app) as server, streams.stalled(server.url, "alpha bravo charlie. " * 2000, readers=2) as unread:
        assert app.state.service.metrics.requests.labels("/summarize", "200")._value.get() == 0
        assert [streams.read_on(one) for one in unread] == [True, True]

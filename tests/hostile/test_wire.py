"""Bytes that are no HTTP, or HTTP that two readers would read in two ways."""

import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings

from tests.api.waiting import PATIENCE
from tests.hostile.conversations import BODY, CHUNKS, GET, POST, TLS_HELLO, bytes_like_http
from tests.hostile.siege import GOOD, Siege
from tests.hostile.texts import SECRET
from tests.hostile.wire import answers_of, lines, statuses

HIDDEN = lines(b"GET /hidden HTTP/1.1", b"Host: x")
few = settings(max_examples=80, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(
    "sent",
    [
        TLS_HELLO,
        b"\x80\x2e\x01\x00\x02" + bytes(43),
        b"\x05\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(18),
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"EHLO %s\r\n" % SECRET.encode(),
        b"GET\r\n\r\n",
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"GET /livez HTTP/1.1\n\r\x00",
        b"{" + BODY + b"}",
        lines(b"GET /livez HTTP/9.9", b"Host: x"),
        lines(b"GET /livez HTTP/1.1x", b"Host: x"),
        lines(b"GET /livez http/1.1", b"Host: x"),
        lines(b"get /livez HTTP/1.1", b"Host: x"),
        lines(b"GET livez HTTP/1.1", b"Host: x"),
        lines(b"GET /li vez HTTP/1.1", b"Host: x"),
        lines(b"GET /livez\x00 HTTP/1.1", b"Host: x"),
        lines(*GET, b" folded: start"),
        lines(*GET, b"X-Nul: a\x00b"),
        lines(*GET, b"X Space: a"),
        lines(*GET, b"X-Space : a"),
        lines(*GET, b": nameless"),
        lines(*GET, b"X-\xc3\xa9: a"),
        lines(*GET, b"no colon"),
    ],
)
def test_what_is_no_http_is_a_problem_and_the_end_of_the_connection(siege: Siege, sent: bytes) -> None:
    (answer,) = siege.send(sent)
    assert answer.status == 400
    assert answer.json()["error_type"] == "malformed-http"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "sent",
    [
        lines(*POST, b"Content-Length: 5", b"Transfer-Encoding: chunked") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked", b"Content-Length: 5") + CHUNKS + HIDDEN,
        lines(*POST, b"Content-Length: 5", b"Content-Length: 6") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: 5", b"Content-Length: 5") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: 5, 5") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: 5, 6") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: -1") + HIDDEN,
        lines(*POST, b"Content-Length: +5") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: 0x5") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: 5 5") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length: ") + HIDDEN,
        lines(*POST, b"Content-Length: 99999999999999999999999") + HIDDEN,
        lines(*POST, b"Content-Length: " + b"9" * 5000) + HIDDEN,
        lines(*POST, b"Content-Length : 5") + b"12345" + HIDDEN,
        lines(*POST, b"Content-Length\t: 5") + b"12345" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked, identity") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding: identity, chunked", b"Content-Length: 5") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding: xchunked") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding: gzip") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding : chunked") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding: \x0bchunked") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding:", b" chunked") + CHUNKS + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + CHUNKS + HIDDEN,
        lines(*POST, b"X-Folded: a", b" Content-Length: 5") + b"12345" + HIDDEN,
        lines(*POST, b"X-Bare: a\rContent-Length: 5") + b"12345" + HIDDEN,
        lines(*POST, b"X-Bare: a\nContent-Length: 5") + b"12345" + HIDDEN,
        b"\n".join((*POST, b"Content-Length: 5", b"", b"12345")) + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"-1\r\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"0x1\r\n1\r\n0\r\n\r\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"1 \r\n1\r\n0\r\n\r\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"1\n1\n0\n\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"1\r\n12345\r\n0\r\n\r\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"1;\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n" + HIDDEN,
        lines(*POST, b"Transfer-Encoding: chunked") + b"\r\n" + HIDDEN,
        lines(b"POST /summarize HTTP/1.0", b"Transfer-Encoding: chunked", b"Content-Length: 5") + CHUNKS + HIDDEN,
    ],
)
def test_a_second_request_is_never_found_in_a_body_of_unclear_length(siege: Siege, sent: bytes) -> None:
    answers = siege.send(sent)
    assert [answer.json()["error_type"] for answer in answers] == ["malformed-http"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET",
        b"GET /livez\r\n",
        GET[0] + b"\r\n",
        lines(*GET)[:-1],
        lines(*POST, b"Content-Length: 100") + BODY,
        lines(*POST, b"Content-Length: 100"),
        lines(*POST, b"Transfer-Encoding: chunked") + CHUNKS[:-2],
        lines(*POST, b"Transfer-Encoding: chunked") + CHUNKS[:20],
        lines(*POST, b"Transfer-Encoding: chunked") + b"ffffffff\r\n" + BODY,
        lines(*POST, b"Content-Length: 100", b"Expect: 100-continue"),
    ],
)
def test_a_request_that_is_cut_short_is_nobodys(siege: Siege, sent: bytes) -> None:
    assert siege.send(sent) == []


def test_what_came_before_nonsense_is_answered_and_nothing_after_it(siege: Siege) -> None:
    good = json.dumps(GOOD).encode()
    request = lines(*POST, b"Content-Length: %d" % len(good)) + good
    first, second = siege.send(request * 2 + b"NONSENSE\r\n\r\n" + lines(*GET), cut=False)
    assert first.status == second.status == 200
    assert first.json()["summary"] == second.json()["summary"]


def test_nonsense_in_a_body_that_was_refused_already_is_not_answered_again(siege: Siege) -> None:
    head = lines(b"POST /summarize HTTP/1.1", b"Host: x", b"Content-Type: text/plain", b"Transfer-Encoding: chunked")
    with socket.create_connection(("127.0.0.1", siege.port), timeout=PATIENCE) as caller:
        caller.sendall(head + b"1\r\n{\r\n")
        received = caller.recv(1 << 16)
        caller.sendall(b"NONSENSE\r\n")
        received += caller.makefile("rb").read()
    assert statuses(answers_of(received)) == [415]


def test_a_trailer_is_no_header(siege: Siege) -> None:
    head = lines(b"POST /summarize HTTP/1.1", b"Host: x", b"Connection: close", b"Transfer-Encoding: chunked")
    trailers = lines(b"0", b"Content-Type: application/json", b"X-Request-ID: from-a-trailer")
    (answer,) = siege.send(head + b"1\r\n{\r\n" + trailers, cut=False)
    assert answer.status == 415
    assert answer.headers["x-request-id"] != "from-a-trailer"


def test_thousands_of_requests_that_come_together_and_offer_upgrades_harm_nobody(siege: Siege) -> None:
    offer = lines(b"GET /livez HTTP/1.1", b"Connection: upgrade", b"Upgrade: h2c")
    answers = siege.send(offer * 3000 + lines(*GET, b"Connection: close"), cut=False)
    assert set(statuses(answers)) <= {200}


@few
@given(bytes_like_http())
def test_bytes_that_are_almost_http_harm_nobody(siege: Siege, sent: bytes) -> None:
    siege.send(sent)

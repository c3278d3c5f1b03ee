"""Bytes that are almost HTTP."""

from hypothesis import strategies as st

from tests.hostile.texts import SECRET
from tests.hostile.wire import lines

GET = (b"GET /livez HTTP/1.1", b"Host: x")
POST = (b"POST /summarize HTTP/1.1", b"Host: x", b"Content-Type: application/json")
BODY = b'{"text": "%s"}' % SECRET.encode()
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))

_PIECES = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\xff", b";", b",", b"%", b"HTTP/1.1", b"GET /livez"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"5\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
    *(b"\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n", TLS_HELLO, SECRET.encode()),
)


@st.composite
def bytes_like_http(draw: st.DrawFn) -> bytes:
    """A request or two with pieces put in, cut out or written over."""
    sent = draw(
        st.sampled_from(
            (
                lines(*GET),
                lines(*GET) * 3,
                lines(b"GET /nope HTTP/1.0"),
                lines(b"POST /livez HTTP/1.1", b"Host: x", b"Content-Length: 5") + b"12345" + lines(*GET),
                lines(b"POST /nope HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked") + CHUNKS + lines(*GET),
                lines(*GET, b"Connection: upgrade", b"Upgrade: websocket") + lines(*GET),
                b"",
            )
        )
    )
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(sent)))
        end = start + draw(st.sampled_from((0, 0, 0, 1, 3, 20)))
        sent = sent[:start] + draw(st.sampled_from(_PIECES) | st.binary(max_size=8)) + sent[end:]
    return sent

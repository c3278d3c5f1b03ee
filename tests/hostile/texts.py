"""Texts that break programs, and pieces of JSON that break readers of it."""

import json

from hypothesis import strategies as st

SECRET = "zq7confidential"  # stands in what callers send, and never in an error or in the log
LIMIT = 200_000  # characters of a text, by default
LARGE = 10_000_000

_PIECES = (
    "word ",
    f" {SECRET} ",
    "\n\n",
    "\t\u00a0\u3000\u2028",
    "\x00",
    "\x1b[31m\x07\x7f\x85",
    "\ud800",
    "\udfff",
    "\udc00\ud800",
    "\u202eright to left\u202c",
    "مرحبا بالعالم ",
    "שָׁלוֹם ",
    "ﷺ",
    "z\u0335\u0321\u0301\u0489",
    "\u0301",
    "\u200b\u200d\u2060\ufeff",
    "\ufffe\uffff\U0010ffff",
    "😀",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "🇪🇨",
    "北京，",
    "ไทย",
    "İıſﬁß",
    "1234567890",
    "-9.99e+999",
    "<s></s><pad><unk>",
    "Ġ▁##",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "'; DROP TABLE texts; --",
    "{{7*7}}${7*7}%s%n",
    "\\u0000\\",
    '"}]',
)
# How often a piece stands in a text that is nothing but it: one giant word, only emoji, only spaces. Seldom very often.
_TIMES = (1, 2, 50, 50, 1000, 1000, 20_000)
_NUMBERS = (
    *("0", "-0", "-1", "1.5", "2.0", "1e2", "9007199254740993", "9223372036854775808", "-1e308", "5e-324", "1e-400"),
    *("1e400", "-1e999", "NaN", "Infinity", "-Infinity", "1" * 400, "1" * 5000, "0." + "3" * 5000, "1e" + "9" * 5000),
    *("01", "1.", ".5", "+1", "0x10", "1_000", "--1", "1e", "١٢"),
)
_BROKEN = (
    b"",
    b"tru",
    b"'a'",
    b"/**/1",
    b"\xff",
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\x00"',
    b'"\\x"',
    b'"\\u12"',
    b'"',
)
_DEPTHS = (2, 60, 500, 1200, 30_000)


def repeated(piece: str, characters: int) -> str:
    """A text of so many characters that is nothing but one piece."""
    return (piece * (characters // len(piece) + 1))[:characters]


def texts() -> st.SearchStrategy[str]:
    """Anything that Python holds as a string: lone surrogates, blanks and very long ones too."""
    mixed = st.lists(st.sampled_from(_PIECES) | st.text(st.characters(), max_size=5), max_size=12).map("".join)
    alone = st.builds(lambda piece, times: piece * times, st.sampled_from(_PIECES), st.sampled_from(_TIMES))
    secret = st.builds("{} {}".format, st.just(SECRET), mixed)
    return mixed | secret | alone | st.text(st.characters(), max_size=40)


def huge_texts() -> st.SearchStrategy[str]:
    """At the limit, beyond it, and far beyond it."""
    return st.builds(repeated, st.sampled_from(_PIECES), st.sampled_from((LIMIT, LIMIT + 1, LARGE)))


def strings(of: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """A JSON string: escaped; in UTF-8, which a lone surrogate makes invalid; or in another encoding."""
    return st.builds(_string, of, st.sampled_from(("ascii", "ascii", "utf-8", "utf-8", "utf-8", "latin-1")))


def values() -> st.SearchStrategy[bytes]:
    """What may stand where a field's value should: right and wrong, well and badly written."""
    numbers = st.sampled_from(_NUMBERS).map(str.encode)
    literals = st.sampled_from((b"null", b"true", b"false", b"[]", b"{}", b'""', b"[null]"))
    nested = st.builds(_nested, st.sampled_from(_DEPTHS), st.booleans(), st.booleans())
    arrays = st.builds(_array, strings(texts()) | numbers, st.sampled_from((1, 2, 129, 5000)))
    doubled = st.builds(lambda value: b'{"num_beams": 1, "num_beams": %s}' % value, numbers)
    return strings(texts()) | numbers | literals | nested | arrays | doubled | st.sampled_from(_BROKEN)


def _string(text: str, encoding: str) -> bytes:
    if encoding == "utf-8":
        return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(text, ensure_ascii=encoding == "ascii").encode(encoding, "replace")


def _nested(depth: int, objects: bool, closed: bool) -> bytes:
    opening, closing = (b'{"a":', b"}") if objects else (b"[", b"]")
    return opening * depth + b"0" + (closing * depth if closed else b"")


def _array(item: bytes, times: int) -> bytes:
    return b"[" + b",".join([item] * min(times, max(1, 1_000_000 // (len(item) + 1)))) + b"]"

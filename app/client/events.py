"""What a stream tells before its summary."""

from app.schemas import Range


class Source(Range):
    """A span of the text that a token of the summary looked at."""

    weight: float


class TokenEvent(Range):
    """One token, while it is streamed: `text` is the piece `[start, end)` of the summary that it made certain."""

    text: str
    log_probability: float
    sources: list[Source]

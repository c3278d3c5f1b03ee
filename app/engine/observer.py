"""What the engine tells about itself, from the worker's threads and from submitters: quick, and never raising."""

from app.engine.costs import Load


class EngineObserver:
    """Does nothing; the service passes one that counts. Times in seconds."""

    def queue_changed(self, waiting: Load, expected_wait: float) -> None:
        """This much waits now, live texts not counted; a newcomer joins in so many seconds, by the measured costs."""

    def rows_changed(self, live: int, capacity: int) -> None:
        """`live` of `capacity` decoder slots are in use."""

    def encoded(self, real_tokens: int, padded_tokens: int, seconds: float) -> None:
        """One encoder pass: tokens of the sources, and positions that the model computed for them."""

    def stepped(self, rows: int, seconds: float) -> None:
        """One decoder step over `rows` live rows."""

    def first_token(self, seconds: float) -> None:
        """From submission of a text to its first summary token."""

    def refused(self, reason: str) -> None:
        """A text was not admitted: `queue_full`, `draining`, `too_large`; or `deadline`, also while it waited."""

    def cancelled(self) -> None:
        """A caller left before its answer."""

    def worker_restarted(self) -> None:
        """A lane of the worker, or its thread, died and was replaced."""

"""When to try again, and until when: pure functions of what went wrong, the time that is left, and chance."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from app.client.errors import DeadlineExceededError

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 8.0
MOST_DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a call must be over, on the caller's own clock."""

    seconds: float
    at: float
    clock: Callable[[], float]

    @property
    def left(self) -> float:
        return self.at - self.clock()

    def check(self) -> None:
        if self.left <= 0:
            raise self.passed()

    def passed(self) -> DeadlineExceededError:
        return DeadlineExceededError(f"no answer within {self.seconds:g} seconds")


def pause(failures: int, retry_after: float | None, left: float, chance: float) -> float | None:
    """Seconds to wait after so many failures (from 1); None when the deadline, `left` seconds away, would pass first.

    The service's own wish is a lower bound, and full jitter comes on top: callers who were refused together must not
    come back together. `chance` is at least 0 and below 1.
    """
    least = retry_after or 0.0
    spread = min(FIRST_SECONDS * 2 ** min(failures - 1, MOST_DOUBLINGS), LONGEST_SECONDS, left - least)
    return least + chance * spread if spread > 0 else None


def seconds_of(retry_after: str, now: datetime) -> float | None:
    """`Retry-After` in seconds, whether it is a number or an HTTP date; None when it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    moment = moment_of(retry_after)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def moment_of(http_date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

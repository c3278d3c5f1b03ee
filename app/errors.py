"""The one error tree.

PrecisError
 ├─ ConfigurationError          a setting is wrong: start-up ends with one line
 ├─ CheckpointError             a checkpoint is missing, damaged or of an unknown kind
 ├─ InputError                  a file or line given to the command line is no text
 ├─ CorpusError                 a corpus cannot be summarized: its input, its output or its cluster
 ├─ RetiredError                an engine whose checkpoint was replaced: its successor takes the work
 └─ RequestError                answered as application/problem+json with `status`
     ├─ MalformedBodyError      400
     ├─ UnauthorizedError       401
     ├─ ForbiddenError          403
     ├─ ModelNotFoundError      404
     ├─ ReloadRunningError      409
     ├─ TooLargeError           413
     ├─ UnsupportedMediaTypeError 415
     ├─ InvalidRequestError     422, with the fields that are wrong
     ├─ TooManyRequestsError    429, with the limit that is used up, and the seconds after which to try again
     ├─ ReloadFailedError       422, the checkpoint in the store cannot be served; the old one is
     ├─ ModelFailedError        500, this text alone made the model fail
     ├─ OverloadedError         503, with the seconds after which to try again
     │   ├─ TooLateError        503, it could not be answered before its own deadline
     │   └─ DrainingError       503, the service is stopping or not ready yet
     └─ DeadlineExceededError   504
"""

from dataclasses import dataclass
from typing import ClassVar


class PrecisError(Exception):
    """Everything that Precis raises on purpose."""


class ConfigurationError(PrecisError):
    """A setting is wrong; the message names it and says what to do."""


class CheckpointError(PrecisError):
    """A checkpoint cannot be used; the message names the file and the reason."""


class InputError(PrecisError):
    """A file or a line of it cannot be read as text; the message says why."""


class CorpusError(PrecisError):
    """A corpus cannot be summarized, or not from here; the message says why and what to do."""


class RetiredError(PrecisError):
    """This engine takes no work any more, for its checkpoint was replaced. Never seen by callers."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: a JSON pointer into the body and what is wrong there."""

    pointer: str
    message: str


class RequestError(PrecisError):
    """A request that is answered with an error status."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal server error"
    slug: ClassVar[str] = "internal-error"

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class MalformedBodyError(RequestError):
    """The body is not JSON."""

    status, title, slug = 400, "Malformed JSON", "malformed-json"


class UnauthorizedError(RequestError):
    """API keys are on, and none that counts was sent."""

    status, title, slug = 401, "Unauthorized", "unauthorized"


class ForbiddenError(RequestError):
    """The key that was sent may not do this."""

    status, title, slug = 403, "Forbidden", "forbidden"


class ModelNotFoundError(RequestError):
    """No model of this name is in the store."""

    status, title, slug = 404, "Model not found", "model-not-found"


class ReloadRunningError(RequestError):
    """A reload of this model is running already."""

    status, title, slug = 409, "Reload is running", "reload-running"


class TooLargeError(RequestError):
    """Body, text or batch over its limit."""

    status, title, slug = 413, "Content too large", "content-too-large"
    reason: ClassVar[str] = "too_large"  # in the metrics


class UnsupportedMediaTypeError(RequestError):
    """The body is not declared as JSON."""

    status, title, slug = 415, "Unsupported media type", "unsupported-media-type"


class InvalidRequestError(RequestError):
    """A field is wrong, unknown, blank or does not fit the model."""

    status, title, slug = 422, "Invalid request", "invalid-request"


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit: of `amount` in so many seconds, `remaining` are left. `unit` is requests or characters."""

    unit: str
    amount: int
    remaining: int
    seconds: int


class TooManyRequestsError(RequestError):
    """A limit of this API key is used up; `retry_after` is in whole seconds."""

    status, title, slug = 429, "Too many requests", "too-many-requests"

    def __init__(self, detail: str, retry_after: int, quota: Quota) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.quota = quota


class ReloadFailedError(RequestError):
    """What lies in the model store cannot be served; what was served before still is."""

    status, title, slug = 422, "Reload failed", "reload-failed"


class ModelFailedError(RequestError):
    """The model failed on this text; its neighbours are answered."""

    status, title, slug = 500, "The model failed on this text", "model-failed"


class OverloadedError(RequestError):
    """The queue is full; `retry_after` is in whole seconds, from the measured queue."""

    status, title, slug = 503, "Overloaded", "overloaded"
    reason: ClassVar[str] = "queue_full"  # in the metrics

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class TooLateError(OverloadedError):
    """Refused on arrival: by the measured costs it could not be answered before its own deadline."""

    reason = "deadline"


class DrainingError(OverloadedError):
    """The service is stopping, or has not loaded its checkpoint yet."""

    title, slug = "Not accepting work", "draining"
    reason = "draining"


class DeadlineExceededError(RequestError):
    """The request's own deadline passed."""

    status, title, slug = 504, "Deadline exceeded", "deadline-exceeded"


def in_one_line(error: BaseException) -> str:
    """What an error says, or of what kind it is where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__

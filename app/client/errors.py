"""What a call can raise.

PrecisError
 ├─ ConnectionFailedError       no whole answer came; retried
 ├─ UnexpectedAnswerError       what answered does not speak as Precis does
 ├─ DeadlineExceededError       the call's deadline passed
 └─ ApiError                    the service answered with an error status
     ├─ UnauthorizedError       401
     ├─ ForbiddenError          403, for administrators only
     ├─ NotFoundError           404, such as a model that is not there
     ├─ ContentTooLargeError    413
     ├─ UnprocessableError      422, with the fields that are wrong in `problem.errors`
     ├─ TooManyRequestsError    429, retried
     ├─ OverloadedError         503, retried: the queue is full, or the service is loading or stopping
     └─ GatewayTimeoutError     504, also a DeadlineExceededError: it passed there before it passed here
"""

from app.errors import PrecisError
from app.schemas import Problem


class ConnectionFailedError(PrecisError):
    """The service cannot be reached, or the connection broke before its whole answer was here."""

    retry_after: float | None = None


class UnexpectedAnswerError(PrecisError):
    """The answer is not one of Precis's: another service, a proxy, or another major version."""


class DeadlineExceededError(PrecisError):
    """The call's deadline passed, over all its attempts."""


class ApiError(PrecisError):
    """The service answered with an error.

    `problem` is its document, None when something before the service answered; `request_id` finds the request in the
    service's log; `retry_after` is in seconds.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        problem: Problem | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.problem = problem
        self.request_id = request_id
        self.retry_after = retry_after


class UnauthorizedError(ApiError):
    """No API key, or a wrong one."""


class ForbiddenError(ApiError):
    """This is for administrators, and the API key is a user's."""


class NotFoundError(ApiError):
    """There is no such model."""


class ContentTooLargeError(ApiError):
    """The text is over the service's limit."""


class UnprocessableError(ApiError):
    """An option or the text is wrong; `problem.errors` says which and why."""


class TooManyRequestsError(ApiError):
    """The limit of this API key is used up."""


class OverloadedError(ApiError):
    """The service takes no work at the moment."""


class GatewayTimeoutError(ApiError, DeadlineExceededError):
    """The service, or something before it, gave up at the deadline."""


OF_STATUS: dict[int, type[ApiError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    413: ContentTooLargeError,
    422: UnprocessableError,
    429: TooManyRequestsError,
    503: OverloadedError,
    504: GatewayTimeoutError,
}

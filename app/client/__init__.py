"""The Python client: `Client` and `AsyncClient`, with typed results, retries, deadlines and streaming.

It knows the schemas of the API and nothing else of the service: importing it loads neither torch nor fastapi.
"""

from app.client.calls import AttentionOptions, Options
from app.client.clients import AsyncClient, Client
from app.client.errors import (
    ApiError,
    ConnectionFailedError,
    ContentTooLargeError,
    DeadlineExceededError,
    ForbiddenError,
    GatewayTimeoutError,
    NotFoundError,
    OverloadedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnprocessableError,
)
from app.errors import PrecisError
from app.schemas import AttentionResponse, Model, ModelList, Problem, Summary, TokenEvent

__all__ = [
    "ApiError",
    "AsyncClient",
    "AttentionOptions",
    "AttentionResponse",
    "Client",
    "ConnectionFailedError",
    "ContentTooLargeError",
    "DeadlineExceededError",
    "ForbiddenError",
    "GatewayTimeoutError",
    "Model",
    "ModelList",
    "NotFoundError",
    "Options",
    "OverloadedError",
    "PrecisError",
    "Problem",
    "Summary",
    "TokenEvent",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnexpectedAnswerError",
    "UnprocessableError",
]

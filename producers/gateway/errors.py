"""Errors of the HTTP API: a status and a body `{"error": {"type", "code", "message", "param"}}`."""

from typing import Any, Final

import msgspec

from producers.errors import BrokerRefused, BrokerUnreachable, ProducerError, SessionNotFound, TargetGap
from protocol import ErrorCode, InvalidSessionId, ProtocolError

RETRY_AFTER_S: Final = 1
"""The `Retry-After` of answers to try again."""

REFUSED: Final = "Redis refuses the gateway's login or commands: `decalage doctor --role gateway` tells which"
"""The message where it answers with an error; the error's own text is not for callers."""

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
    504: "unavailable_error",
}
_WORKER_FAULTS: Final = frozenset({ErrorCode.ENGINE_ERROR, ErrorCode.INTERNAL_ERROR, ErrorCode.POISON_EVENT})


class ApiError(Exception):
    """A request that fails with this status; `str()` is the message."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.code: Final = str(code)
        self.param: Final = param
        self.retry_after_s: Final = retry_after_s

    @property
    def error(self) -> dict[str, Any]:
        """The content of `error` in the body."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"type": kind, "code": self.code, "message": str(self), "param": self.param}

    @property
    def body(self) -> bytes:
        """The body as JSON."""
        return msgspec.json.encode({"error": self.error})

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the body."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def api_error(failure: Exception) -> ApiError:
    """Return the answer to a failed request; a failure that no request can cause is a bug, without its text."""
    match failure:
        case ApiError():
            return failure
        case BrokerUnreachable():
            return redis_unavailable()
        case BrokerRefused():
            return ApiError(503, "redis_unavailable", REFUSED, retry_after_s=RETRY_AFTER_S)
        case SessionNotFound() | InvalidSessionId():
            return session_not_found()
        case TargetGap():
            return ApiError(410, "target_gap", str(failure), param="after")
        case ProtocolError(code=code, param=param):
            status = 413 if code == ErrorCode.EVENT_TOO_LARGE else 400
            return ApiError(status, code, str(failure), param=param)
        case ProducerError():
            return ApiError(500, "internal_error", str(failure))
    return ApiError(
        500, "internal_error", f"{type(failure).__name__} in the gateway: this is a bug; its log says where"
    )


def redis_unavailable() -> ApiError:
    """Return the error for a Redis that does not answer."""
    message = "Redis does not answer; the request may or may not have arrived. Try again; number your events first"
    return ApiError(503, "redis_unavailable", message, retry_after_s=RETRY_AFTER_S)


def no_worker() -> ApiError:
    """Return the error for a deployment without a running worker."""
    message = "expected a running worker, got none: start one with `decalage serve`, then try again"
    return ApiError(503, "no_worker", message, retry_after_s=RETRY_AFTER_S)


def session_not_found() -> ApiError:
    """Return the error for a session that is not there, or that is another key's."""
    return ApiError(404, "session_not_found", "there is no such session: check its id, or open a new one", param="id")


def worker_error(code: str, message: str, param: str | None) -> ApiError:
    """Return the answer to a request that a worker refused or failed at, from its `error` event."""
    if code == ErrorCode.WORKER_FULL:
        return ApiError(503, code, message, param=param, retry_after_s=RETRY_AFTER_S)
    return ApiError(500 if code in _WORKER_FAULTS else 400, code, message, param=param)

"""What every HTTP route does: find the caller, check scope, origin and rate, read the body, answer errors as JSON."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from producers.gateway.auth import Caller, Scope, sent_key
from producers.gateway.errors import ApiError, api_error
from producers.gateway.gateway import Gateway
from protocol.codec import invalid_event
from protocol.hosts import is_loopback

_T = TypeVar("_T")

Handler = Callable[[Request, Gateway, Caller], Awaitable[Response]]

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOG: Final = logging.getLogger(__name__)


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway that serves the connection."""
    gateway: Gateway = connection.app.state.gateway
    return gateway


def endpoint(handler: Handler, scope: Scope | None = None) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler as a route; `scope`: what the caller needs, None: nothing but a valid key."""

    async def answer(request: Request) -> Response:
        gateway = gateway_of(request)
        try:
            caller = admit(request, gateway)
            if scope is not None:
                caller.require(scope)
            response = await handler(request, gateway, caller)
        except Exception as failure:
            response = error_response(failure)
        gateway.figures.requests += 1
        gateway.figures.failures += response.status_code >= 500
        return response

    return answer


def admit(connection: HTTPConnection, gateway: Gateway, subprotocols: list[str] | None = None) -> Caller:
    """Return who calls. Raises ApiError for a wrong key, host or origin, and above the rate limit."""
    check_origin(connection, gateway)
    caller = gateway.keys.caller(sent_key(connection.headers, connection.query_params, subprotocols or ()))
    gateway.count_request(caller)
    return caller


def check_origin(connection: HTTPConnection, gateway: Gateway) -> None:
    """Refuse pages of other origins. Raises ApiError.

    Without keys, any page that a browser on this machine opens could otherwise use the gateway: directly, or by a host
    name of its own that leads to 127.0.0.1.
    """
    host = connection.headers.get("host", "")
    if gateway.keys.is_open and not _is_loopback(host):
        raise ApiError(
            403, "host_not_allowed", "expected a loopback host, as no keys are set: set keys for other hosts"
        )
    origin = connection.headers.get("origin")
    is_safe = connection.scope["type"] == "http" and connection.scope["method"] in _SAFE_METHODS
    if origin is None or is_safe or origin in gateway.settings.allowed_origins or _netloc(origin) == host:
        return
    raise ApiError(403, "origin_not_allowed", "expected a page of this gateway or of an allowed origin, got another's")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


async def read_body(request: Request) -> bytes:
    """Return the body. Raises ApiError when it is too large or too slow."""
    settings = gateway_of(request).settings
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.max_body_bytes:
                    message = f"expected a body of at most {settings.max_body_bytes} bytes, got more: split it"
                    raise ApiError(413, "body_too_large", message)
    except TimeoutError:
        raise ApiError(408, "request_timeout", f"expected the body within {settings.body_timeout_s:g} s") from None
    except ClientDisconnect:
        raise ApiError(400, "request_aborted", "the connection ended before the body did") from None
    return bytes(body)


async def read_json(request: Request, shape: type[_T]) -> _T:
    """Return the body as this Struct. Raises ApiError, or InvalidEvent with the path of what is wrong."""
    return decode_json(await read_body(request), shape)


def decode_json(data: bytes, shape: type[_T]) -> _T:
    """Return JSON as this Struct. Raises ApiError, or InvalidEvent with the path of what is wrong."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as failure:
        raise invalid_event(str(failure)) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise ApiError(400, "malformed_json", "expected one JSON object in UTF-8, got something else") from None


def json_response(content: Any, status: int = 200) -> Response:
    """Return an answer in JSON that no cache keeps."""
    return Response(msgspec.json.encode(content), status, {"Cache-Control": "no-store"}, media_type="application/json")


def error_response(failure: Exception) -> Response:
    """Return the answer to a failed request; log a bug with its place, but without any text of the request."""
    error = api_error(failure)
    if error.code == "internal_error" and not isinstance(failure, ApiError):
        _LOG.error("%s at %s", type(failure).__name__, _place(failure))
    headers = {"Cache-Control": "no-store", **error.headers}
    return Response(error.body, error.status, headers, media_type="application/json")


def http_exception(request: Request, failure: Exception) -> Response:
    """Answer what Starlette refuses: unknown paths, wrong methods."""
    status = failure.status_code if isinstance(failure, HTTPException) else 500
    headers = dict(failure.headers or {}) if isinstance(failure, HTTPException) else {}
    response = error_response(no_route(HTTPStatus(status)))
    response.headers.update(headers)
    return response


def no_route(status: HTTPStatus = HTTPStatus.NOT_FOUND) -> ApiError:
    """Return the error for a path or method that is not there."""
    code = status.phrase.lower().replace(" ", "_")
    return ApiError(status, code, f"{status.phrase}: see /docs for what is there")


def _place(failure: BaseException) -> str:
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"

"""The ASGI application: all routes, the headers of every answer, and the console's files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.gateway import generate, openai_realtime, openapi, operations, realtime, sessions, sse, stats
from producers.gateway.endpoint import endpoint, http_exception
from producers.gateway.gateway import Gateway
from producers.gateway.sockets import no_socket, socket_endpoint

CONSOLE: Final = Path(__file__).with_name("console")
"""The console's files."""

SECRETS_PATH: Final = "/v1/realtime/translations/client_secrets"

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # a page's address may hold a key
    "X-Content-Type-Options": "nosniff",
}


class SecurityHeaders:
    """Adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class ConsoleFiles(StaticFiles):
    """The console's files; a browser asks whether each is still the same, as those of two versions do not fit."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the answer with a file, or the one that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(gateway: Gateway) -> Starlette:
    """Return the application of the gateway, which connects to Redis when it has to."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with gateway.running():
            app.state.gateway = gateway
            yield

    settings = gateway.settings
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(settings.allowed_origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        expose_headers=["Retry-After"],
    )
    return Starlette(
        routes=_routes(),
        middleware=[Middleware(SecurityHeaders), *([cors] if settings.allowed_origins else [])],
        exception_handlers={HTTPException: http_exception},
        lifespan=lifespan,
    )


def _routes() -> list[BaseRoute]:
    return [
        Route("/livez", operations.livez),
        Route("/readyz", operations.readyz),
        Route("/metrics", endpoint(operations.metrics, "stats")),
        Route("/v1/me", endpoint(operations.me)),
        Route("/v1/sessions", endpoint(sessions.create_session, "produce"), methods=["POST"]),
        Route("/v1/sessions/{id}", endpoint(sessions.get_session, "subscribe")),
        Route("/v1/sessions/{id}", endpoint(sessions.close_session, "produce"), methods=["DELETE"]),
        Route("/v1/sessions/{id}/input", endpoint(sessions.send_input, "produce"), methods=["POST"]),
        Route("/v1/sessions/{id}/events", endpoint(sse.session_events, "subscribe")),
        Route("/v1/sessions/{id}/links", endpoint(sessions.create_link, "subscribe"), methods=["POST"]),
        Route("/v1/generate", endpoint(generate.generate, "produce"), methods=["POST"]),
        Route("/v1/generate_batch", endpoint(generate.generate_batch, "produce"), methods=["POST"]),
        Route("/v1/stats", endpoint(stats.get_stats, "stats")),
        Route("/v1/configure", endpoint(stats.configure, "configure"), methods=["POST"]),
        Route("/v1/openapi.json", openapi.get_document),
        Route("/docs", openapi.get_page),
        Route(SECRETS_PATH, endpoint(openai_realtime.create_client_secret, "produce"), methods=["POST"]),
        WebSocketRoute("/v1/realtime/translations", socket_endpoint(openai_realtime.translations)),
        WebSocketRoute("/v1/realtime", socket_endpoint(realtime.realtime)),
        WebSocketRoute("/{path:path}", socket_endpoint(no_socket)),
        Mount("/", ConsoleFiles(directory=CONSOLE, html=True, check_dir=False)),
    ]

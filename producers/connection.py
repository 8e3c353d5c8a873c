"""Connections to the broker: two kinds, with their time-outs, and errors that name it without its password.

Writing waits a few seconds at most, so that a live source learns soon that its words go nowhere. Following blocks
inside Redis, and so needs a connection of its own whose read time-out lies above the blocking time: redis-py does not
add the two.
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

from producers.errors import BrokerRefused, BrokerUnreachable, InvalidBrokerUrl
from protocol.redis_url import RECONNECT_CODES, InvalidRedisUrl, RedisUrl, parse_redis_url

_T = TypeVar("_T")

Broker: TypeAlias = Redis | str
"""A client of redis-py, or the URL of a Redis: `redis://`, `rediss://` or `unix://`; of a cluster: `redis+cluster://`."""

CONNECT_TIMEOUT_S: Final = 2.0
WRITE_TIMEOUT_S: Final = 3.0
WRITE_RETRIES: Final = 2

BLOCK_MS: Final = 4_000
"""Longest wait inside one XREAD."""

FOLLOW_TIMEOUT_S: Final = 2 * BLOCK_MS / 1000
"""Read time-out of a blocking connection: a reply that is this late never comes."""

NO_ANSWER: Final = (RedisConnectionError, RedisTimeoutError, ClusterError, RedisClusterException, OSError)
"""What redis-py lets out when the broker cannot be reached, or goes away."""

_POOL_STATE: Final = ("maint_notifications", "orig_", "himport_registry")
"""Prefixes of what a pool adds to its connections' settings for itself; not for another pool to share."""


def backoff_s(num_failures: int) -> float:
    """The pause after this many failures in a row: 0.05 s, doubled each time, at most 1 s.

    >>> backoff_s(1), backoff_s(3), backoff_s(99)
    (0.05, 0.2, 1.0)
    """
    return min(1.0, 0.05 * 2.0 ** min(num_failures - 1, 10))


def is_passing(failure: BaseException) -> bool:
    """Tell whether another attempt, on a new connection, may succeed where this one failed.

    So it is where nobody answers, and where a server does that is not, or no longer, the one to ask: after a failover,
    a connection leads to a replica for as long as it stays open.
    """
    if isinstance(failure, AuthenticationError | AuthorizationError):
        return False
    if isinstance(failure, (*NO_ANSWER, ReadOnlyError)):
        return True
    return isinstance(failure, RedisError) and str(failure).partition(" ")[0] in RECONNECT_CODES


class Link(Struct, frozen=True):
    """A client, the address to name in messages, and whether the client is ours to close."""

    client: Redis
    address: str
    is_owned: bool
    is_cluster: bool = False

    async def drop_connections(self) -> None:
        """Close the connections that no call uses; the next call opens one."""
        if not self.is_cluster:  # there, redis-py asks anew which node to talk to
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close the connections of our own; a client that was handed in stays as it is."""
        if self.is_owned:
            await self.client.aclose()


def open_writer(broker: Broker) -> Link:
    """A link for short commands; nothing is connected yet. Raises InvalidBrokerUrl."""
    if isinstance(broker, Redis):
        return Link(broker, address_of(broker), is_owned=False)
    # A resent append is harmless, as events are numbered: so a lost reply is asked for again.
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), WRITE_RETRIES)
    return _open(broker, socket_timeout=WRITE_TIMEOUT_S, retry=retry)


def open_follower(broker: Broker) -> Link:
    """A link for blocking reads, never shared with a client that was handed in. Raises InvalidBrokerUrl."""
    # The subscriber counts failures itself: it knows what it has read, redis-py does not.
    settings: dict[str, Any] = {"socket_timeout": FOLLOW_TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    if isinstance(broker, str):
        return _open(broker, **settings)
    client = _beside(broker, **settings)
    return Link(client, address_of(client), is_owned=True)


def _open(text: str, **settings: Any) -> Link:
    url = _parsed(text)
    settings |= {"protocol": 2, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    if url.is_cluster:
        # It takes the same calls as the client of one server.
        client = cast(Redis, RedisCluster(**url.settings, **settings))
    else:
        client = Redis(**url.settings, **settings)
    return Link(client, url.address, is_owned=True, is_cluster=url.is_cluster)


def _parsed(text: str) -> RedisUrl:
    try:
        return parse_redis_url(text)
    except InvalidRedisUrl as error:
        raise InvalidBrokerUrl(str(error)) from None  # the cause holds the URL


def _beside(client: Redis, **settings: Any) -> Redis:
    """Another client of the same server, with these settings and replies as bytes."""
    pool = client.connection_pool
    kept = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_POOL_STATE)}
    kept |= {"protocol": 2, "decode_responses": False, "socket_connect_timeout": CONNECT_TIMEOUT_S, **settings}
    return Redis.from_pool(ConnectionPool(connection_class=pool.connection_class, **kept))


def address_of(client: Redis) -> str:
    """The URL of the client's server, without user and password."""
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
    """Raise what redis-py raises inside as BrokerUnreachable or BrokerRefused of this address."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as failure:
        kind = BrokerUnreachable if is_passing(failure) else BrokerRefused
        raise kind(address, str(failure) or type(failure).__name__) from failure


async def interruptibly(call: Awaitable[_T]) -> _T:
    """The outcome of a call of redis-py; a cancellation, such as a time-out's or Ctrl-C's, always gets through.

    redis-py sends inside `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes at the moment
    when the sending is done; a blocking read would then go on as if nothing had happened.
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
    # Nobody waits for a call that was left behind; without this, its failure would be reported as forgotten.
    if not task.cancelled():
        task.exception()

"""Connections to Redis with settings that fit streams, and a clear error where there is no server.

A cluster is named by `redis+cluster://` (or `rediss+cluster://`) and any of its nodes.
"""

from typing import Any, Final, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

TIMEOUT_S = 5.0
"""How long an answer may take: well above what any read blocks, or redis-py would send it again."""


GONE: Final = (RedisError, RedisClusterException, OSError)
"""Whatever redis-py raises; who catches it waits for Redis and tries again."""

_CLUSTER: Final = "+cluster"


class RedisUnreachable(Exception):
    """No Redis server answers where one was expected."""


def shown(url: str) -> str:
    """`url` without its password.

    >>> shown("redis://:secret@localhost:6379/0")
    'redis://localhost:6379/0'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def patience() -> Retry:
    """How a call is made again whose connection was lost: three times within a second or so."""
    return Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), retries=3)


def client(url: str) -> Redis:
    """A client for `url` that answers bytes: of one server, or of a cluster, which takes the same calls.

    Raises RedisUnreachable for a URL that is none.
    """
    scheme, _, rest = url.partition("://")
    settings: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": 3, "health_check_interval": 15}
    try:
        if scheme.endswith(_CLUSTER):
            return cast(
                Redis, RedisCluster.from_url(f"{scheme.removesuffix(_CLUSTER)}://{rest}", retry=patience(), **settings)
            )
        return Redis.from_url(url, retry=patience(), **settings)
    except (ValueError, RedisClusterException) as error:
        raise RedisUnreachable(
            f"{shown(url)!r} is no Redis URL ({error}); expected redis://HOST:PORT/DB, or redis+cluster://HOST:PORT"
        ) from error


def is_cluster(redis: Redis) -> bool:
    """Whether this client speaks to a cluster."""
    return isinstance(redis, RedisCluster)


async def check(redis: Redis, url: str) -> str:
    """The version of the server that answers. Raises RedisUnreachable, also for a cluster's node taken alone."""
    try:
        facts = await redis.info("server")
        if facts.get("redis_mode") == "cluster" and not is_cluster(redis):
            raise RedisUnreachable(
                f"Redis at {shown(url)} is a cluster; name it {shown(url).replace('://', '+cluster://', 1)}"
            )
        return str(facts["redis_version"])
    except AuthenticationError as error:
        raise RedisUnreachable(f"Redis at {shown(url)} refuses these credentials: {error}") from error
    except (NoPermissionError, ResponseError):  # it answers, but not this: a stand-in, or a user who may not ask
        return "unknown"
    except GONE as error:
        raise RedisUnreachable(
            f"no Redis answers at {shown(url)} ({error}); start one, name another with --redis, or leave --redis "
            "out to use the embedded broker"
        ) from error

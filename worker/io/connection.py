"""Connections to Redis with settings that fit streams, and a clear error where there is no server."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

TIMEOUT_S = 5.0
"""How long an answer may take: well above what any read blocks, or redis-py would send it again."""


class RedisUnreachable(Exception):
    """No Redis server answers where one was expected."""


def shown(url: str) -> str:
    """`url` without its password.

    >>> shown("redis://:secret@localhost:6379/0")
    'redis://localhost:6379/0'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def client(url: str) -> Redis:
    """A client for `url` that answers bytes. Raises RedisUnreachable for a URL that is none."""
    try:
        return Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=3,
            retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), retries=3),
            health_check_interval=15,
        )
    except ValueError as error:
        raise RedisUnreachable(f"{shown(url)!r} is no Redis URL ({error}); expected redis://HOST:PORT/DB") from error


async def check(redis: Redis, url: str) -> str:
    """The version of the server that answers. Raises RedisUnreachable."""
    try:
        return str((await redis.info("server"))["redis_version"])
    except AuthenticationError as error:
        raise RedisUnreachable(f"Redis at {shown(url)} refuses these credentials: {error}") from error
    except (NoPermissionError, ResponseError):  # it answers, but not this: a stand-in, or a user who may not ask
        return "unknown"
    except (RedisError, OSError) as error:
        raise RedisUnreachable(
            f"no Redis answers at {shown(url)} ({error}); start one, name another with --redis, or leave --redis "
            "out to use the embedded broker"
        ) from error

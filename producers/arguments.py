"""Checks of the arguments of a publisher or subscriber, for errors that name what is expected in their place."""

from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from protocol import Session

_BROKER: Final = "the URL of a Redis, such as 'redis://127.0.0.1:6379/0', or a client, redis.asyncio.Redis(...)"


def check_broker(broker: Any) -> None:
    """Raise TypeError for anything but a URL or an asyncio client of one Redis. No value is quoted: it may hold a
    password.
    """
    if isinstance(broker, str) or (isinstance(broker, Redis) and not isinstance(broker, Pipeline)):
        return
    kind = broker if isinstance(broker, type) else type(broker)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    if isinstance(broker, type):
        remedy = "that is a class: make a client of it, or give the URL"
    elif "Cluster" in kind.__qualname__:
        remedy = "name a cluster by the URL of any of its nodes, redis+cluster://HOST:PORT"
    elif name.startswith("redis.") and ".asyncio" not in name:
        remedy = "that one blocks the event loop: give the URL, or redis.asyncio.Redis with the same arguments"
    else:
        remedy = "give the URL"
    raise TypeError(f"expected {_BROKER}, got {name}; {remedy}")


def check_session(session: Any) -> Session:
    """Return the options of a session. Raises TypeError for anything but a Session."""
    if isinstance(session, Session):
        return session
    raise TypeError(
        f"expected the options of a session, Session(target_language='fr', ...), got {type(session).__name__}"
    )


def check_number(name: str, value: Any, least: float, *, is_whole: bool = False) -> None:
    """Raise TypeError for a value that is no number (no whole one), ValueError for one below `least`."""
    if isinstance(value, bool) or not isinstance(value, int if is_whole else (int, float)):
        raise TypeError(f"expected a {'whole ' * is_whole}number for {name}, got {type(value).__name__} {value!r}")
    if not value >= least:
        raise ValueError(f"expected {name} >= {least:g}, got {value}")

"""Try each command of each role on its own keys, to find which of them Redis denies; leave no trace.

On keys that running workers share, a command is given so that it changes nothing: `NOMKSTREAM 0-1`, `XX`, a member that
is no worker and no session. The session whose keys are written is nobody else's, and its keys are deleted.
"""

from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Final

from protocol import bell_key, lease_key, source_key, state_key, target_key
from protocol.keys import (
    CONFIGURE_KEY,
    DEAD_KEY,
    FREED_KEY,
    HEARD_KEY,
    LIVE_KEY,
    SHARDS_KEY,
    STATS_KEY,
    index_key,
    wake_key,
)
from worker.io.client import GONE, Call, Client
from worker.io.replies import Command, Denied
from worker.io.scripts import script

_NOBODY = "doctor!"  # no session id, and no worker's name
_LIFE_S = 2


async def denials(redis: Client, role: str | None = None) -> list[str]:
    """Return all that Redis denies to the user of this client in this role, or in any, as `COMMAND on KEY`.

    Raises what `Client.call` raises, such as Interrupted for a server that cannot write now.
    """
    session_id = f"doctor-{token_hex(6)}"
    commands = [command for name in ([role] if role else ROLES) for command in _COMMANDS[name](session_id)]
    try:
        answers = await redis.call(commands)
        if role in (None, "worker"):
            answers += await _calls(redis, session_id)
    finally:
        with suppress(*GONE):
            await redis.call(_traces(session_id))
    return list(dict.fromkeys(answer.what for answer in answers if isinstance(answer, Denied)))


def _of_workers(session_id: str) -> list[Command]:
    source, target, state = source_key(session_id), target_key(session_id), state_key(session_id)
    bell, index, lease = bell_key(0), index_key(0), lease_key(0)
    return [
        ("EXISTS", source, target, state),
        ("EXPIRE", source, _LIFE_S),
        ("XRANGE", source, "-", "+", "COUNT", 1),
        ("XREVRANGE", source, "+", "-", "COUNT", 1),
        ("XADD", target, "MAXLEN", "~", 9, "1-0", "event", ""),
        ("EXPIRE", target, _LIFE_S),
        ("TTL", target),
        ("XRANGE", target, "-", "+", "COUNT", 1),
        ("XREVRANGE", target, "+", "-", "COUNT", 1),
        ("HSET", state, "epoch", 0),
        ("EXPIRE", state, _LIFE_S),
        ("HMGET", state, "epoch", "seq"),
        ("TIME",),
        ("GET", SHARDS_KEY),
        ("SET", SHARDS_KEY, 0, "NX", "XX"),  # a contradiction: where it is allowed, it is refused as an error of syntax
        *(("XADD", key, "NOMKSTREAM", "0-1", "event", "") for key in (FREED_KEY, STATS_KEY, DEAD_KEY)),
        *(("XREAD", "COUNT", 1, "STREAMS", key, "$") for key in (bell, CONFIGURE_KEY, FREED_KEY)),
        *(("XREVRANGE", key, "+", "-", "COUNT", 1) for key in (CONFIGURE_KEY, FREED_KEY)),
        ("HGET", HEARD_KEY, 0),
        ("HSET", HEARD_KEY, _NOBODY, "0-0"),
        ("ZADD", index, "XX", 0, _NOBODY),
        ("ZRANGE", index, 0, 0),
        ("ZREM", index, _NOBODY),
        ("ZREMRANGEBYSCORE", index, "-inf", 0),
        ("HSET", LIVE_KEY, _NOBODY, "0 0 {}"),  # a life that is over: the next heartbeat removes it
        ("HGETALL", LIVE_KEY),
        ("HDEL", LIVE_KEY, _NOBODY),
        ("PEXPIRE", LIVE_KEY, 1, "GT"),  # no less than there is
        ("HMGET", lease, "owner", "epoch", "until", "term"),
    ]


def _of_producers(session_id: str) -> list[Command]:
    source, target = source_key(session_id), target_key(session_id)
    return [
        ("EXISTS", source),
        *_appending(source),
        ("XREVRANGE", source, "+", "-", "COUNT", 1),
        ("XREVRANGE", target, "+", "-", "COUNT", 1),
        ("XREAD", "COUNT", 1, "STREAMS", target, "0-0"),
    ]


def _of_subscribers(session_id: str) -> list[Command]:
    target = target_key(session_id)
    return [("XREVRANGE", target, "+", "-", "COUNT", 1), ("XREAD", "COUNT", 1, "STREAMS", target, "0-0")]


def _of_gateways(session_id: str) -> list[Command]:
    source, target, wake = source_key(session_id), target_key(session_id), wake_key(_NOBODY)
    return [
        *_appending(source),
        ("XRANGE", source, "-", "+", "COUNT", 1),
        ("XRANGE", target, "-", "+", "COUNT", 1),
        ("XREVRANGE", target, "+", "-", "COUNT", 1),
        ("XREAD", "COUNT", 1, "STREAMS", target, wake, "0-0", "0-0"),
        *(("XADD", key, "NOMKSTREAM", "0-1", "event", "") for key in (wake, CONFIGURE_KEY)),
        *(("EXPIRE", key, 1, "GT") for key in (wake, CONFIGURE_KEY)),
        ("HGETALL", LIVE_KEY),
        ("XREVRANGE", STATS_KEY, "+", "-", "COUNT", 1),
    ]


def _appending(source: str) -> list[Command]:
    bell = bell_key(0)
    return [
        ("GET", SHARDS_KEY),
        ("XADD", source, "NOMKSTREAM", "0-1", "event", ""),
        ("EXPIRE", source, _LIFE_S),
        ("XADD", bell, "NOMKSTREAM", "0-1", "event", ""),
        ("EXPIRE", bell, 1, "GT"),
    ]


_COMMANDS: Final[dict[str, Callable[[str], list[Command]]]] = {
    "worker": _of_workers,
    "producer": _of_producers,
    "subscriber": _of_subscribers,
    "gateway": _of_gateways,
}
ROLES: Final = tuple(_COMMANDS)
"""What uses Redis, each with a login of its own where its owner wants so."""


async def _calls(redis: Client, session_id: str) -> list[object]:
    # The scripts as a worker runs them, which takes a session and leaves; and its look for sessions.
    keys = [state_key(session_id), target_key(session_id)]
    node = (await redis.nodes())[0]
    leaving: Call = ([LIVE_KEY, FREED_KEY], [_NOBODY, "", 1, ""])
    calls = (
        lambda: redis.run(script("open"), [(keys, [_LIFE_S, 1, _NOBODY, 9, 0, "", ""])]),
        lambda: redis.run(script("leases"), [leaving]),
        lambda: redis.scan(node, 0, source_key(session_id), 1),
    )
    answers: list[object] = []
    for call in calls:
        try:
            answers += await call()
        except Denied as denied:
            answers.append(denied)
    return answers


def _traces(session_id: str) -> list[Command]:
    # Who may not delete leaves keys that expire; who may not do that either leaves two small ones.
    keys = (source_key(session_id), target_key(session_id), state_key(session_id))
    return [("DEL", *keys), ("HDEL", HEARD_KEY, _NOBODY), ("HDEL", LIVE_KEY, _NOBODY)]

"""Try each command that workers, producers and listeners use, to find which of them Redis denies.

On keys that running workers share, a command is given so that it changes nothing: `NOMKSTREAM 0-1`, `XX`, a member that
is no worker and no session. The session whose keys are written is nobody else's, and its keys are deleted.
"""

from contextlib import suppress
from secrets import token_hex

from protocol import bell_key, lease_key, source_key, state_key, target_key
from protocol.keys import CONFIGURE_KEY, DEAD_KEY, FREED_KEY, HEARD_KEY, LIVE_KEY, SHARDS_KEY, STATS_KEY, index_key
from worker.io.client import GONE, Call, Client
from worker.io.replies import Command, Denied
from worker.io.scripts import script

_NOBODY = "doctor!"  # no session id, and no worker's name
_LIFE_S = 2


async def denials(redis: Client) -> list[str]:
    """Return everything that Redis denies to the user of this client, as `COMMAND on KEY`.

    Raises what `Client.call` raises, such as Interrupted for a server that cannot write now.
    """
    session_id = f"doctor-{token_hex(6)}"
    shards = await redis.call([("GET", SHARDS_KEY)])
    number = shards[0] if isinstance(shards[0], bytes) else b"0"
    try:
        answers = [*shards, *await redis.call([*_of_session(session_id), *_of_workers(number)])]
        answers += await _calls(redis, session_id)
    finally:
        with suppress(*GONE):
            await redis.call(_traces(session_id))
    return list(dict.fromkeys(answer.what for answer in answers if isinstance(answer, Denied)))


def _of_session(session_id: str) -> list[Command]:
    source, target, state = source_key(session_id), target_key(session_id), state_key(session_id)
    return [
        ("EXISTS", source, target, state),
        ("XADD", source, "NOMKSTREAM", "0-1", "event", ""),
        ("EXPIRE", source, _LIFE_S),
        ("XRANGE", source, "-", "+", "COUNT", 1),
        ("XREVRANGE", source, "+", "-", "COUNT", 1),
        ("XADD", target, "MAXLEN", "~", 9, "1-0", "event", ""),
        ("EXPIRE", target, _LIFE_S),
        ("TTL", target),
        ("XRANGE", target, "-", "+", "COUNT", 1),
        ("XREVRANGE", target, "+", "-", "COUNT", 1),
        ("XREAD", "COUNT", 1, "STREAMS", target, "0-0"),
        ("HSET", state, "epoch", 0),
        ("EXPIRE", state, _LIFE_S),
        ("PEXPIRE", state, 1_000 * _LIFE_S),
        ("HMGET", state, "epoch", "seq"),
    ]


def _of_workers(num_shards: bytes) -> list[Command]:
    bell, index, lease = bell_key(0), index_key(0), lease_key(0)
    return [
        ("SET", SHARDS_KEY, num_shards, "XX"),
        *(("XADD", key, "NOMKSTREAM", "0-1", "event", "") for key in (bell, FREED_KEY, STATS_KEY, DEAD_KEY)),
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
        ("HMGET", lease, "owner", "epoch", "until", "term"),
    ]


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
    # Who may not delete leaves keys that expire.
    keys = (source_key(session_id), target_key(session_id), state_key(session_id))
    return [("DEL", *keys), ("HDEL", HEARD_KEY, _NOBODY), ("HDEL", LIVE_KEY, _NOBODY)]

"""Which sessions have news: one blocking read on the bells of the shards, and a sweep for producers that do
not ring.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from redis.asyncio import Redis

from protocol import InvalidSessionId, bell_key, check_session_id, session_of, source_key
from protocol.keys import BELL_FIELD, CONFIGURE_KEY, EVENT_FIELD, FREED_KEY, SOURCE_PATTERN
from worker.io.channel import Channel

_COUNT = 10_000  # entries of each bell
_SCAN_COUNT = 1_000
_BLOCK_MS = 500  # a change of shards is heard after this at the latest


class Rung(NamedTuple):
    """What one wait has heard: all empty after a quiet while."""

    sessions: list[str]
    """Ids that have rung, each once."""
    settings: list[bytes]
    """Configure events, as JSON."""
    is_freed: bool
    """A worker has given shards back."""


class Doorbell:
    """The bells of some shards, and the streams by which workers are told of settings and of shards that are free.
    Remembers how far it has read.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._channel = Channel(redis)
        self._last: dict[str, str] = {}

    async def listen(self, shards: Iterable[int]) -> None:
        """Attends to exactly these shards; a new one's bell is heard from now on (its sessions are found by
        the sweep).
        """
        wanted = [bell_key(shard) for shard in shards] + [CONFIGURE_KEY, FREED_KEY]
        pipe = self._redis.pipeline(transaction=False)
        fresh = [key for key in wanted if key not in self._last]
        for key in fresh:
            pipe.xrevrange(key, count=1)
        tops = await pipe.execute() if fresh else []
        found = {key: top[0][0].decode() if top else "0-0" for key, top in zip(fresh, tops, strict=True)}
        self._last = {key: self._last.get(key) or found[key] for key in wanted}

    async def wait(self) -> Rung:
        """What there is to hear, after half a second at the latest."""
        keys, ids = zip(*self._last.items(), strict=True)
        [answer] = await self._channel.call([("XREAD", "COUNT", _COUNT, "BLOCK", _BLOCK_MS, "STREAMS", *keys, *ids)])
        if isinstance(answer, Exception):
            raise answer
        rung: dict[str, None] = {}
        settings: list[bytes] = []
        is_freed = False
        for raw_key, entries in answer or []:
            key = raw_key.decode()
            if key not in self._last:
                continue
            self._last[key] = entries[-1][0].decode()
            for _, fields in entries:
                if key == CONFIGURE_KEY:
                    settings.append(fields.get(EVENT_FIELD.encode(), b""))
                elif key == FREED_KEY:
                    is_freed = True
                else:
                    rung[fields.get(BELL_FIELD.encode(), b"").decode(errors="replace")] = None
        return Rung([name for name in rung if _is_session_id(name)], settings, is_freed)


class Sweep:
    """A walk over the keyspace, a step at a time, and a look at sessions whose producers do not ring."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._channel = Channel(redis)
        self._cursors: dict[str | None, int] = {}  # of each node of a cluster; of the one server under None
        self._seen: set[str] = set()

    def restart(self) -> None:
        """The next step is the first one of a walk."""
        self._cursors, self._seen = {}, set()

    async def step(self) -> tuple[set[str], set[str] | None]:
        """Sessions met in this step; and, when the walk is through, all that were met in it (else None)."""
        keys = await self._scan()
        met = {name for name in (_name(key) for key in keys) if _is_session_id(name)}
        self._seen |= met
        if self._cursors:
            return met, None
        seen, self._seen = self._seen, set()
        return met, seen

    async def _scan(self) -> list[bytes]:
        # The next keys of whatever node the walk is at; no cursor is left when it is through.
        node, cursor = next(iter(self._cursors.items()), (None, 0))
        self._cursors.pop(node, None)
        cluster: Any = self._redis
        target = {} if node is None else {"target_nodes": cluster.get_node(node_name=node)}
        found, keys = await cluster.scan(cursor, match=SOURCE_PATTERN, count=_SCAN_COUNT, **target)
        self._cursors |= found if isinstance(found, dict) else {None: found}
        self._cursors = {node: cursor for node, cursor in self._cursors.items() if cursor}
        return list(keys)

    async def news(self, cursors: dict[str, str]) -> list[str]:
        """Of the sessions given with their cursors, those with entries behind them."""
        if not cursors:
            return []
        answers = await self._channel.call(
            [("XRANGE", source_key(name), f"({cursor}", "+", "COUNT", 1) for name, cursor in cursors.items()]
        )
        return [name for name, answer in zip(cursors, answers, strict=True) if answer and isinstance(answer, list)]


def _name(key: bytes | str) -> str:
    try:
        return session_of(key)
    except (UnicodeDecodeError, ValueError, InvalidSessionId):
        return ""


def _is_session_id(name: str) -> bool:
    try:
        check_session_id(name)
    except InvalidSessionId:
        return False
    return True

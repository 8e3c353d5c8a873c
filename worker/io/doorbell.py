"""Which sessions have news: one blocking read on the bells of the shards, and a sweep for producers that do not ring.

How far a bell has been heard is kept in Redis, so that its next listener hears what the last one had not dealt with.
"""

import time
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from protocol import InvalidSessionId, bell_key, check_session_id, session_of, source_key
from protocol.keys import BELL_FIELD, CONFIGURE_KEY, EVENT_FIELD, FREED_KEY, HEARD_KEY, SOURCE_PATTERN
from worker.io.client import Client
from worker.io.replies import Command, Entry, entries

_COUNT: Final = 10_000  # entries of each bell
_SCAN_COUNT: Final = 1_000
_BLOCK_MS: Final = 500  # a change of shards is heard after this at the latest
_SAVE_S: Final = 0.5


class Rung(NamedTuple):
    """What one wait has heard: all empty after a quiet while."""

    sessions: list[str]
    """Ids that have rung, each once."""
    settings: list[bytes]
    """Configure events, as JSON."""
    is_freed: bool
    """A worker has given shards back."""
    cursors: dict[str, str]
    """The last entry of each stream, by key."""


class Doorbell:
    """The bells of some shards, and the streams by which workers are told of settings and of shards that are free.

    What has been heard is heard again until it is acknowledged.
    """

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._last: dict[str, str] = {}
        self._shards: dict[str, int] = {}  # of the bells whose news are all dealt with up to the last
        self._unsaved: set[str] = set()
        self._saved_s = 0.0

    async def listen(self, shards: Iterable[int]) -> None:
        """Attend to exactly these shards; to a new one's bell from where the last listener has heard it."""
        bells = {bell_key(shard): shard for shard in shards}
        fresh = {key: shard for key, shard in bells.items() if key not in self._last}
        others = [key for key in (CONFIGURE_KEY, FREED_KEY) if key not in self._last]
        commands: list[Command] = [("HGET", HEARD_KEY, shard) for shard in fresh.values()]
        commands += [("XREVRANGE", key, "+", "-", "COUNT", 1) for key in others]
        answers = await self._all(commands)
        heard = {key: answer.decode() if answer else "0-0" for key, answer in zip(fresh, answers, strict=False)}
        tops = {key: _last_id(answer) for key, answer in zip(others, answers[len(fresh) :], strict=True)}
        self._last = {key: self._last.get(key, "") for key in (*bells, CONFIGURE_KEY, FREED_KEY)} | heard | tops
        self._shards = {key: shard for key, shard in bells.items() if key in self._shards or key in fresh}
        self._unsaved &= self._shards.keys()

    async def wait(self) -> Rung:
        """What there is to hear that has not been acknowledged, after half a second at the latest."""
        keys, ids = zip(*self._last.items(), strict=True)
        saves = self._saves()
        *_, answer = await self._all([*saves, ("XREAD", "COUNT", _COUNT, "BLOCK", _BLOCK_MS, "STREAMS", *keys, *ids)])
        if saves:
            self._unsaved, self._saved_s = set(), time.monotonic()
        names: dict[str, None] = {}
        settings: list[bytes] = []
        is_freed = False
        cursors = {}
        for raw_key, raw_entries in answer or []:
            key, news = raw_key.decode(), entries(raw_entries)
            cursors[key] = news[-1][0]
            if key == CONFIGURE_KEY:
                settings = _values(news, EVENT_FIELD)
            elif key == FREED_KEY:
                is_freed = True
            else:
                names |= dict.fromkeys(value.decode(errors="replace") for value in _values(news, BELL_FIELD))
        return Rung([name for name in names if _is_session_id(name)], settings, is_freed, cursors)

    def acknowledge(self, rung: Rung, shards: Collection[int]) -> None:
        """Hear none of it again: the sessions of these shards that have rung are taken, the others are not ours.

        For a shard that is not among them, the next listener is left what has rung since the last one that was.
        """
        for key, entry_id in rung.cursors.items():
            if key not in self._last:
                continue
            self._last[key] = entry_id
            if self._shards.get(key) in shards:
                self._unsaved.add(key)
            else:
                self._shards.pop(key, None)
                self._unsaved.discard(key)

    def _saves(self) -> list[Command]:
        if not self._unsaved or time.monotonic() - self._saved_s < _SAVE_S:
            return []
        fields = [part for key in sorted(self._unsaved) for part in (self._shards[key], self._last[key])]
        return [("HSET", HEARD_KEY, *fields)]

    async def _all(self, commands: list[Command]) -> list[Any]:
        answers = await self._redis.call(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


class Sweep:
    """A walk over the keyspace, a step at a time, and a look at sessions whose producers do not ring."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._ahead: list[tuple[str, int]] = []  # the nodes that are not through, with their cursors
        self._seen: set[str] = set()

    async def step(self) -> tuple[set[str], set[str] | None]:
        """Sessions met in this step; and, when the walk is through, all that were met in it (else None)."""
        (node, cursor), *ahead = self._ahead or [(node, 0) for node in await self._redis.nodes()]
        page = await self._redis.scan(node, cursor, SOURCE_PATTERN, _SCAN_COUNT)
        self._ahead = ([(node, page.cursor)] if page.cursor else []) + ahead
        met = {name for name in map(_name, page.keys) if _is_session_id(name)}
        self._seen |= met
        if self._ahead:
            return met, None
        seen, self._seen = self._seen, set()
        return met, seen

    async def news(self, cursors: dict[str, str]) -> list[str]:
        """Of the sessions given with their cursors, those with entries behind them."""
        answers = await self._redis.call(
            [("XRANGE", source_key(name), f"({cursor}", "+", "COUNT", 1) for name, cursor in cursors.items()]
        )
        return [name for name, answer in zip(cursors, answers, strict=True) if answer and isinstance(answer, list)]


def _values(news: Iterable[Entry], field: str) -> list[bytes]:
    return [fields.get(field.encode(), b"") for _, fields in news]


def _last_id(newest: list[Any]) -> str:
    return entries(newest)[0][0] if newest else "0-0"


def _name(key: bytes) -> str:
    try:
        return session_of(key)
    except InvalidSessionId:
        return ""


def _is_session_id(name: str) -> bool:
    try:
        check_session_id(name)
    except InvalidSessionId:
        return False
    return True

"""A session's keys as the worker uses them: take it, read its source, publish to its target.

Each change is one script on the session's keys; scripts of many sessions travel in one pipeline.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from protocol import (
    Error,
    ProtocolError,
    ServerEvent,
    SessionPhase,
    decode_server,
    encode,
    source_key,
    state_key,
    target_key,
)
from protocol.keys import ABANDONED_TTL_S, CLOSED_TTL_S, DEAD_KEY, EVENT_FIELD
from worker.core.quarantine import QUARANTINE_OWNERS, Advance, Record
from worker.core.replay import Base, Progress, Written
from worker.core.session import NO_ROOM
from worker.io.channel import Channel
from worker.io.scripts import script

MAX_TARGET_ENTRIES = 100_000
PAGE_ENTRIES = 256
MAX_DEAD_LETTERS = 1_000

Entry = tuple[str, dict[bytes, bytes]]
Call = tuple[list[str], list[Any]]
"""Keys and arguments of a script."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a session has come, as its state hash tells."""

    status: str = "absent"  # a SessionPhase
    cursor: str = "0-0"  # last source entry whose events have been applied
    source_seq: int | None = None  # the producer's last number
    progress: Progress = Progress()
    base: Base | None = None  # where a replay begins; None: at the log's beginning, in a commit: where it did before
    record: Record = Record()  # what is held against the session


class Claim(msgspec.Struct, frozen=True):
    """What a worker takes a session with."""

    session_id: str
    lease: int  # the epoch of its shard's lease
    dead: str = ""  # the worker that held the shard before, if it has died
    failure: int = 0  # the number of this worker's own last failure at the session; 0: none
    is_alone: bool = False  # nothing else is in this worker's hands


class Commit(msgspec.Struct, frozen=True):
    """Events to publish, in order, and the checkpoint that holds once they are."""

    session_id: str
    epoch: int
    events: tuple[ServerEvent, ...]
    checkpoint: Checkpoint
    advance: Advance = ""


class Store:
    """The sessions in one Redis."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self._redis = redis
        self._channel = Channel(redis)
        self._worker = worker
        self._shas: dict[str, str] = {}

    async def open(self, claims: Sequence[Claim]) -> list[tuple[int, Checkpoint] | Exception]:
        """Epoch and checkpoint of each session, which is this worker's from now on; or what is wrong with its state.

        Fenced where it has been taken under a later lease; Suspect where QUARANTINE_OWNERS have failed at it and
        the claim is not for it alone. It may be called again when the reply was lost.
        """
        calls = [
            (
                [state_key(claim.session_id)],
                [
                    *(ABANDONED_TTL_S, claim.lease, self._worker, QUARANTINE_OWNERS),
                    int(claim.is_alone),
                    f"{self._worker}:{claim.failure}" if claim.failure else "",
                    claim.dead,
                ],
            )
            for claim in claims
        ]
        return [_opened(answer) for answer in await self._evaluate("open", calls)]

    async def commit(self, commits: Sequence[Commit]) -> list[int | Exception]:
        """Publishes; for each session how many of its events were there already (a reply was lost), Fenced where
        another worker has it, or what Redis says is wrong.
        """
        answers = await self._evaluate("commit", [_commit_call(commit) for commit in commits])
        return [_committed(answer) for answer in answers]

    async def read(self, cursors: dict[str, str]) -> dict[str, list[Entry]]:
        """Up to `PAGE_ENTRIES` source entries of each session behind its cursor."""
        answers = await self._channel.call(
            [
                ("XRANGE", source_key(session_id), f"({cursor}", "+", "COUNT", PAGE_ENTRIES)
                for session_id, cursor in cursors.items()
            ]
        )
        pages: dict[str, list[Entry]] = {}
        for session_id, answer in zip(cursors, answers, strict=True):
            if isinstance(answer, ResponseError):  # someone keeps another type under that key
                continue
            pages[session_id] = [(entry_id.decode(), fields or {}) for entry_id, fields in answer]
        return pages

    async def entry(self, session_id: str, entry_id: str) -> list[Entry]:
        """The source entry with this id; none if it is gone."""
        found: Any = await self._redis.xrange(source_key(session_id), min=entry_id, max=entry_id)
        return [(found_id.decode(), fields or {}) for found_id, fields in found]

    async def dead_letter(self, letter: Mapping[str, str | bytes]) -> None:
        """Put these fields into the dead-letter stream as its newest entry; it keeps about the last thousand."""
        fields: Any = dict(letter)
        await self._redis.xadd(DEAD_KEY, fields, maxlen=MAX_DEAD_LETTERS)

    async def refused(self, session_id: str, number: int) -> frozenset[str]:
        """Ids of the `number` source entries that the session's worker has turned away for lack of room; fewer where
        the target stream does not go back so far.
        """
        found: set[str] = set()
        last = "-"
        while len(found) < number and (page := await self._page(target_key(session_id), last)):
            events = (_event(fields) for _, fields in page)
            found |= {event.source_id or "" for event in events if isinstance(event, Error) and event.code in NO_ROOM}
            last = f"({page[-1][0].decode()}"
        return frozenset(found)

    async def _page(self, key: str, first: str) -> list[Any]:
        page: Any = await self._redis.xrange(key, min=first, count=PAGE_ENTRIES)
        return list(page)

    async def _evaluate(self, name: str, calls: Sequence[Call]) -> list[Any]:
        # EVALSHA; a server that has forgotten the script (a restart) gets it again. Repeating is harmless. A cluster's
        # pipelines refuse EVALSHA: there, each call carries the text.
        if self._channel.is_cluster:
            return await self._run(calls, ("EVAL", script(name)))
        for _ in range(3):
            if name not in self._shas:
                self._shas[name] = await self._redis.script_load(script(name))
            answers = await self._run(calls, ("EVALSHA", self._shas[name]))
            if not any(isinstance(answer, NoScriptError) for answer in answers):
                break
            del self._shas[name]
        return answers

    async def _run(self, calls: Sequence[Call], program: tuple[str, str]) -> list[Any]:
        return await self._channel.call([(*program, len(keys), *keys, *args) for keys, args in calls])


class Fenced(Exception):
    """Another worker has taken the session; this one may not publish for it any more."""


class Suspect(Exception):
    """Several owners in a row have failed at the session; it has not been taken."""


class Behind(Exception):
    """Redis has lost events that were published (a restart from older data); the session is to be replayed."""


def _event(fields: dict[bytes, bytes]) -> ServerEvent | None:
    try:
        return decode_server(fields.get(EVENT_FIELD.encode(), b""))
    except ProtocolError:  # somebody else's entry
        return None


def _opened(answer: Any) -> tuple[int, Checkpoint] | Exception:
    if isinstance(answer, Exception):
        return answer
    if answer == b"STALE":
        return Fenced("another worker has taken it under a later lease")
    if answer == b"SUSPECT":
        return Suspect("several workers in a row have failed at it")
    try:
        return _checkpoint(answer)
    except (ValueError, msgspec.DecodeError) as error:
        return ValueError(f"its state hash holds what no worker has written: {error}")


def _checkpoint(answer: list[Any]) -> tuple[int, Checkpoint]:
    epoch, failed_owners, failed_trials, *saved = answer
    status, cursor, source_seq = (value.decode() if value is not None else "" for value in saved[:3])
    seq, segment, source_words, target_words, refused, created_ms = (int(number or 0) for number in saved[5:])
    return int(epoch), Checkpoint(
        status=SessionPhase(status or "absent").value,
        cursor=cursor or "0-0",
        source_seq=int(source_seq) if source_seq else None,
        record=Record(int(failed_owners), int(failed_trials)),
        progress=Progress(
            seq=seq,
            segment=segment,
            written=msgspec.msgpack.decode(saved[3], type=Written) if saved[3] else None,
            source_words=source_words,
            target_words=target_words,
            refused=refused,
            created_ms=created_ms,
        ),
        base=msgspec.msgpack.decode(saved[4], type=Base) if saved[4] else None,
    )


def _commit_call(commit: Commit) -> Call:
    point = commit.checkpoint
    session_id = commit.session_id
    ttl_s = CLOSED_TTL_S if point.status == "closed" else ABANDONED_TTL_S
    source_seq = "" if point.source_seq is None else point.source_seq
    done = point.progress
    first = commit.events[0].seq if commit.events else done.seq + 1
    return (
        [state_key(session_id), target_key(session_id), source_key(session_id)],
        [
            *(commit.epoch, ttl_s, MAX_TARGET_ENTRIES),
            *(point.status, point.cursor, source_seq),
            *(done.segment, b"" if done.written is None else msgspec.msgpack.encode(done.written)),
            *(done.source_words, done.target_words, done.refused, done.created_ms),
            b"" if point.base is None else msgspec.msgpack.encode(point.base),
            *(commit.advance, first, *(encode(event) for event in commit.events)),
        ],
    )


def _committed(answer: Any) -> int | Exception:
    if answer == b"FENCED":
        return Fenced("another worker has taken it")
    if answer == b"BEHIND":
        return Behind("Redis knows fewer of its events than were published")
    return answer if isinstance(answer, Exception) else int(answer)

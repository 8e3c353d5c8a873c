"""A session's keys in Redis: take it, read its source, publish to its target; and `Checkpoint`, the blob in its state.

Each change is one script on the session's keys; scripts of many sessions travel together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from protocol import (
    Error,
    OutputTextDelta,
    ProtocolError,
    ServerEvent,
    SessionPhase,
    decode_server,
    encode,
    source_key,
    state_key,
    target_key,
)
from protocol.keys import ABANDONED_TTL_S, CLOSED_TTL_S, DEAD_KEY, EVENT_FIELD, VISIBLE_FIELD
from worker.core.quarantine import QUARANTINE_OWNERS, Advance, Record
from worker.core.replay import Base, Progress, Published, Visible
from worker.core.session import NO_ROOM
from worker.io.client import Call, Client
from worker.io.index import SessionIndex
from worker.io.replies import Command, Denied, Entry, entries, is_wrong_type
from worker.io.scripts import script

MAX_TARGET_ENTRIES = 100_000
PAGE_ENTRIES = 256
MAX_DEAD_LETTERS = 1_000
_LOST = "lost"


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """How far a session has come: one blob in its state hash, but for what the scripts count."""

    status: str = "absent"  # a SessionPhase, or "lost"
    cursor: str = "0-0"  # last source entry whose events have been applied
    source_seq: int | None = None  # the producer's last number
    progress: Progress = Progress()
    base: Base | None = None  # where a replay begins; None: at the log's beginning
    idle_cursor: str = ""  # the last source entry before the session began to close for idleness, if it has

    @property
    def is_lost(self) -> bool:
        """Whether Redis has lost it, and with it all but the number of target events."""
        return self.status == _LOST


class Claim(msgspec.Struct, frozen=True):
    """What a worker takes a session with."""

    session_id: str
    lease: int  # the epoch of its shard's lease
    dead: str = ""  # the worker that held the shard before, if it has died
    failure: int = 0  # the number of this worker's own last failure at the session, which counts once; 0: none
    is_alone: bool = False  # nothing else is in this worker's hands


class Taken(NamedTuple):
    """A session that is this worker's from now on."""

    epoch: int
    saved: Checkpoint
    record: Record


class Commit(msgspec.Struct, frozen=True):
    """Events to publish, in order, and the checkpoint that holds once they are."""

    session_id: str
    epoch: int
    events: tuple[ServerEvent, ...]
    checkpoint: Checkpoint
    visible: tuple[Visible | None, ...] = ()  # what goes with each of the events; (): nothing with any
    advance: Advance = ""


class Store:
    """The sessions in one Redis."""

    def __init__(self, redis: Client, worker: str, index: SessionIndex) -> None:
        self._redis = redis
        self._worker = worker
        self._index = index

    async def open(self, claims: Sequence[Claim]) -> list[Taken | Exception]:
        """Take the sessions; in place of each that was not taken, what is wrong with its state.

        Fenced where it has been taken under a later lease; Suspect where it may be taken only alone, and the claim
        is another; Denied by Redis's access rules. It may be called again when the reply was lost.
        """
        await self._index.add(claim.session_id for claim in claims)
        calls: list[Call] = [
            (
                [state_key(claim.session_id), target_key(claim.session_id)],
                [
                    *(ABANDONED_TTL_S, claim.lease, self._worker, QUARANTINE_OWNERS, int(claim.is_alone)),
                    *(f"{self._worker}:{claim.failure}" if claim.failure else "", claim.dead),
                ],
            )
            for claim in claims
        ]
        answers = [_opened(answer) for answer in await self._redis.run(script("open"), calls)]
        checkpoints = {
            claim.session_id: answer.saved
            for claim, answer in zip(claims, answers, strict=True)
            if not isinstance(answer, Exception)
        }
        await self._forget_closed(checkpoints)
        return answers

    async def commit(self, commits: Sequence[Commit]) -> list[int | Exception]:
        """Publish; for each session how many of its events were there already (a reply was lost), Fenced where
        another worker has it, StateLost, Behind where Redis has lost some, or what Redis says is wrong.
        """
        answers = [_committed(answer) for answer in await self._redis.run(script("commit"), list(map(_call, commits)))]
        done = zip(commits, answers, strict=True)
        await self._forget_closed({c.session_id: c.checkpoint for c, answer in done if isinstance(answer, int)})
        return answers

    async def _forget_closed(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        closed = [name for name, point in checkpoints.items() if point.status == SessionPhase.CLOSED.value]
        if closed:
            await self._index.remove(closed)

    async def read(self, cursors: Mapping[str, str]) -> dict[str, list[Entry] | Denied]:
        """Up to `PAGE_ENTRIES` source entries of each session behind its cursor, or that Redis denies them.

        A session is left out where somebody keeps another type under its source's key.
        """
        answers = await self._redis.call(
            [
                ("XRANGE", source_key(session_id), f"({cursor}", "+", "COUNT", PAGE_ENTRIES)
                for session_id, cursor in cursors.items()
            ]
        )
        pages: dict[str, list[Entry] | Denied] = {}
        for session_id, answer in zip(cursors, answers, strict=True):
            if isinstance(answer, Denied):
                pages[session_id] = answer
            elif isinstance(answer, Exception):
                if not is_wrong_type(answer):
                    raise answer
            else:
                pages[session_id] = entries(answer)
        return pages

    async def published(self, wanted: Mapping[str, Progress]) -> dict[str, Published | Denied]:
        """The words of the first unfinished segment of each session, as its target stream tells them, or that Redis
        denies them.
        """
        words: dict[str, list[tuple[OutputTextDelta, Visible]]] = {name: [] for name in wanted}
        denied: dict[str, Denied] = {}
        starts = {name: f"{progress.segment_seq + 1}-0" for name, progress in wanted.items()}
        while starts:
            calls: list[Command] = [
                ("XRANGE", target_key(name), start, "+", "COUNT", PAGE_ENTRIES) for name, start in starts.items()
            ]
            for name, answer in zip(list(starts), await self._redis.call(calls), strict=True):
                del starts[name]
                if isinstance(answer, Denied):
                    denied[name] = answer
                elif isinstance(answer, Exception):
                    if not is_wrong_type(answer):
                        raise answer
                elif page := entries(answer):
                    words[name] += filter(None, map(_published, page))
                    if len(page) == PAGE_ENTRIES:
                        starts[name] = f"({page[-1][0]}"
        return {**words, **denied}

    async def remains(self, session_id: str) -> tuple[list[ServerEvent], str]:
        """Return all target events of the session, and the id of its newest source entry."""
        events: list[ServerEvent] = []
        last = "-"
        while page := await self._page(target_key(session_id), last):
            events += [event for _, fields in page if (event := _event(fields)) is not None]
            last = f"({page[-1][0]}"
        newest = entries(await self._redis.ask("XREVRANGE", source_key(session_id), "+", "-", "COUNT", 1))
        return events, newest[0][0] if newest else "0-0"

    async def entry(self, session_id: str, entry_id: str) -> list[Entry]:
        """The source entry with this id; none if it is gone."""
        return entries(await self._redis.ask("XRANGE", source_key(session_id), entry_id, entry_id))

    async def dead_letter(self, letter: Mapping[str, str | bytes]) -> None:
        """Put these fields into the dead-letter stream as its newest entry; it keeps about the last thousand."""
        fields = [part for field in letter.items() for part in field]
        await self._redis.ask("XADD", DEAD_KEY, "MAXLEN", "~", MAX_DEAD_LETTERS, "*", *fields)

    async def refused(self, session_id: str, number: int) -> frozenset[str]:
        """Ids of the `number` source entries that the session's worker has turned away for lack of room; fewer where
        the target stream does not go back so far.
        """
        found: set[str] = set()
        last = "-"
        while len(found) < number and (page := await self._page(target_key(session_id), last)):
            events = (_event(fields) for _, fields in page)
            found |= {event.source_id or "" for event in events if isinstance(event, Error) and event.code in NO_ROOM}
            last = f"({page[-1][0]}"
        return frozenset(found)

    async def _page(self, key: str, first: str) -> list[Entry]:
        return entries(await self._redis.ask("XRANGE", key, first, "+", "COUNT", PAGE_ENTRIES))


class Fenced(Exception):
    """Another worker has taken the session; this one may not publish for it any more."""


class Suspect(Exception):
    """Several owners in a row have failed at the session; it has not been taken."""


class Behind(Exception):
    """Redis has lost events that were published (a restart from older data); the session is to be replayed."""


class StateLost(Exception):
    """Redis has lost the session's state (an eviction, or somebody's DEL); it is to be taken again."""


class UnreadableCheckpoint(Exception):
    """What stands in the session's state hash is no checkpoint that this worker can read."""


_ENCODER = msgspec.msgpack.Encoder()
_CHECKPOINT = msgspec.msgpack.Decoder(Checkpoint)
_VISIBLE = msgspec.json.Decoder(Visible)


def _event(fields: dict[bytes, bytes]) -> ServerEvent | None:
    try:
        return decode_server(fields.get(EVENT_FIELD.encode(), b""))
    except ProtocolError:  # somebody else's entry
        return None


def _published(entry: Entry) -> tuple[OutputTextDelta, Visible] | None:
    _, fields = entry
    event, blob = _event(fields), fields.get(VISIBLE_FIELD.encode())
    return (event, _VISIBLE.decode(blob)) if blob is not None and isinstance(event, OutputTextDelta) else None


def _opened(answer: Any) -> Taken | Exception:
    if isinstance(answer, Exception):
        return answer
    if answer == b"STALE":
        return Fenced("another worker has taken it under a later lease")
    if answer == b"SUSPECT":
        return Suspect("several workers in a row have failed at it")
    epoch, failed_owners, failed_attempts, blob, seq, is_lost = answer
    if blob is None and is_lost is not None:
        saved = Checkpoint(status=_LOST, progress=Progress(seq=int(seq)))
    elif blob is None and seq is None:
        saved = Checkpoint()
    else:
        try:
            saved = _CHECKPOINT.decode(blob or b"")
        except msgspec.DecodeError as error:
            return UnreadableCheckpoint(
                f"expected a checkpoint of this version of Decalage in the session's state hash, got {error}: another "
                "version, or another program, has written it; let the other version end the session, or delete the key"
            )
    return Taken(int(epoch), saved, Record(int(failed_owners), int(failed_attempts)))


def _call(commit: Commit) -> Call:
    point = commit.checkpoint
    session_id = commit.session_id
    ttl_s = CLOSED_TTL_S if point.status == SessionPhase.CLOSED.value else ABANDONED_TTL_S
    first = commit.events[0].seq if commit.events else point.progress.seq + 1
    return (
        [state_key(session_id), target_key(session_id), source_key(session_id)],
        [
            *(commit.epoch, ttl_s, MAX_TARGET_ENTRIES, point.status, _ENCODER.encode(point), commit.advance, first),
            *(part for pair in zip(map(encode, commit.events), _visible(commit), strict=True) for part in pair),
        ],
    )


def _visible(commit: Commit) -> list[bytes]:
    visible = commit.visible or [None] * len(commit.events)
    return [b"" if each is None else msgspec.json.encode(each) for each in visible]


def _committed(answer: Any) -> int | Exception:
    if answer == b"FENCED":
        return Fenced("another worker has taken it")
    if answer == b"LOST":
        return StateLost("Redis has lost its state")
    if answer == b"BEHIND":
        return Behind("Redis knows fewer of its events than were published")
    return answer if isinstance(answer, Exception) else int(answer)

"""A session's keys in Redis: claim the session, read its source, publish to its target.

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
from worker.core.replay import Progress, Published, Visible
from worker.core.session import NO_ROOM
from worker.io import checkpoint as checkpoints
from worker.io.checkpoint import Checkpoint, UnreadableCheckpoint
from worker.io.client import Call, Client
from worker.io.index import SessionIndex
from worker.io.replies import Command, Denied, Entry, entries, is_wrong_type
from worker.io.scripts import script

MAX_TARGET_ENTRIES = 100_000
PAGE_ENTRIES = 256
MAX_DEAD_LETTERS = 1_000


class Claim(msgspec.Struct, frozen=True):
    """The arguments with which a worker claims a session."""

    session_id: str
    lease: int  # the epoch of its shard's lease
    dead: str = ""  # the worker that held the shard before, if it has died
    failure: int = 0  # the number of this worker's own last failure at the session, which counts once; 0: none
    is_alone: bool = False  # nothing else is in this worker's hands


class Taken(NamedTuple):
    """The result of a successful claim."""

    epoch: int
    saved: Checkpoint
    record: Record


class Commit(msgspec.Struct, frozen=True):
    """Events to publish, in order, and the checkpoint that holds once they are."""

    session_id: str
    epoch: int
    events: tuple[ServerEvent, ...]
    checkpoint: Checkpoint
    visible: tuple[Visible | None, ...] = ()  # stored beside each of the events; (): nothing beside any
    advance: Advance = ""


class Store:
    """The sessions in one Redis."""

    def __init__(self, redis: Client, worker: str, index: SessionIndex) -> None:
        self._redis = redis
        self._worker = worker
        self._index = index

    async def open(self, claims: Sequence[Claim]) -> list[Taken | Exception]:
        """Claim the sessions; return for each a `Taken` or an exception.

        Fenced: it was claimed under a later lease. Suspect: it must run alone, and the claim does not say so. Denied:
        Redis's access rules forbid it. UnreadableCheckpoint: neither its checkpoint nor its number of events can be
        decoded. The call may be repeated after a lost reply.
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
        """Publish the commits. Return for each how many events an earlier try had already published, or an exception.
        Fenced: another worker has claimed the session. StateLost: Redis has lost its state. Behind: Redis has lost
        earlier events. Any other exception is Redis's own answer.
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
        """Return up to `PAGE_ENTRIES` source entries of each session after its cursor, or Denied.

        A session whose source key holds another type than a stream is left out.
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
        """Return the published words of each session's first unfinished segment, from its target stream, or Denied."""
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
        """Return the source entry with this id in a list; an empty list if it is gone."""
        return entries(await self._redis.ask("XRANGE", source_key(session_id), entry_id, entry_id))

    async def dead_letter(self, letter: Mapping[str, str | bytes]) -> None:
        """Append these fields to the dead-letter stream, which keeps about `MAX_DEAD_LETTERS` entries."""
        fields = [part for field in letter.items() for part in field]
        await self._redis.ask("XADD", DEAD_KEY, "MAXLEN", "~", MAX_DEAD_LETTERS, "*", *fields)

    async def refused(self, session_id: str, number: int) -> frozenset[str]:
        """Return the ids of the `number` source entries that workers refused for lack of room; fewer if the target
        stream no longer holds all of these errors.
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
    """Another worker has claimed the session; this one may not publish for it any more."""


class Suspect(Exception):
    """Several owners in a row have failed at the session; it must run alone and was not claimed."""


class Behind(Exception):
    """Redis has lost published events (it restarted from older data); the session must be replayed."""


class StateLost(Exception):
    """Redis has lost the session's state (an eviction, or somebody's DEL); the session must be claimed again."""


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
        saved = checkpoints.lost(int(seq))
    elif blob is None and seq is None:
        saved = Checkpoint()
    else:
        try:
            saved = checkpoints.decode(blob or b"")
        except UnreadableCheckpoint as error:
            if seq is None or not seq.isdigit():
                return error
            saved = checkpoints.lost(int(seq))  # another version's: its streams are as good as a lost state's
    return Taken(int(epoch), saved, Record(int(failed_owners), int(failed_attempts)))


def _call(commit: Commit) -> Call:
    point = commit.checkpoint
    session_id = commit.session_id
    ttl_s = CLOSED_TTL_S if point.status == SessionPhase.CLOSED.value else ABANDONED_TTL_S
    first = commit.events[0].seq if commit.events else point.progress.seq + 1
    return (
        [state_key(session_id), target_key(session_id), source_key(session_id)],
        [
            *(commit.epoch, ttl_s, MAX_TARGET_ENTRIES, point.status, checkpoints.encode(point), commit.advance, first),
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

"""A session's keys on real servers."""

import msgspec
import pytest

from protocol import OutputTextDelta, Session, source_key, state_key, target_key
from protocol.keys import ABANDONED_TTL_S, CLOSED_TTL_S, NUM_SHARDS
from worker.core.quarantine import QUARANTINE_OWNERS, Record
from worker.core.replay import Base, Progress, Visible
from worker.io.checkpoint import Checkpoint, UnreadableCheckpoint
from worker.io.client import Client, connect
from worker.io.index import SessionIndex
from worker.io.replies import Denied, Interrupted
from worker.io.store import Claim, Commit, Store, Suspect, Taken

KEYS = (source_key("s"), target_key("s"), state_key("s"))


def store(client: Client, worker: str = "w") -> Store:
    """The store of a worker."""
    return Store(client, worker, SessionIndex(client, NUM_SHARDS))


async def opened(client: Client, claim: Claim, worker: str = "w") -> Taken:
    """The one session that is claimed."""
    [answer] = await store(client, worker).open([claim])
    assert not isinstance(answer, Exception), answer
    return answer


def word(seq: int, epoch: int, status: str = "open", name: str = "s") -> Commit:
    """One more target word."""
    event = OutputTextDelta(
        seq=seq,
        segment=0,
        index=seq - 1,
        word="bon",
        text="bon",
        tokens=(7,),
        source_words_read=seq,
        elapsed_ms=0,
        delay_ms=0,
    )
    return Commit(name, epoch, (event,), Checkpoint(status=status, progress=Progress(seq=seq)))


async def test_a_commit_renews_what_keys_have_to_live_once_a_tenth_has_gone(any_client: Client) -> None:
    """All three have a TTL from the first event on, never much less than what is promised; closed, they go sooner."""
    client = any_client
    await client.ask("XADD", KEYS[0], "*", "event", "{}")  # by somebody who gives no TTL
    epoch, *_ = await opened(client, Claim("s", lease=1))

    async def lives_s(seq: int, status: str = "open") -> list[int]:
        assert await store(client).commit([word(seq, epoch, status)]) == [0]
        return await client.call([("TTL", key) for key in KEYS])

    assert all(ABANDONED_TTL_S - 60 < left <= ABANDONED_TTL_S for left in await lives_s(1))
    fresh, old = int(0.95 * ABANDONED_TTL_S), int(0.85 * ABANDONED_TTL_S)
    await client.call([("EXPIRE", key, fresh) for key in KEYS])
    assert all(fresh - 60 < left <= fresh for left in await lives_s(2))
    await client.call([("EXPIRE", key, old) for key in KEYS])
    assert all(ABANDONED_TTL_S - 60 < left <= ABANDONED_TTL_S for left in await lives_s(3))
    await client.ask("DEL", KEYS[1])  # somebody's mistake: what is written anew lives no longer than the rest
    assert all(ABANDONED_TTL_S - 60 < left <= ABANDONED_TTL_S for left in await lives_s(4))
    assert all(CLOSED_TTL_S - 60 < left <= CLOSED_TTL_S for left in await lives_s(5, "closed"))
    assert await store(client).commit([word(5, epoch, "closed")]) == [1]


async def test_a_checkpoint_comes_back_as_it_was_saved(any_client: Client) -> None:
    """All of it, in one field of the hash."""
    epoch, fresh, record = await opened(any_client, Claim("s", lease=1))
    assert (fresh, record) == (Checkpoint(), Record())
    base = Base("3-0", Session(target_language="fr"), 2, 1, 9)
    point = Checkpoint(
        status="open", cursor="5-0", source_seq=4, progress=Progress(seq=1, segment=2, refused=1), base=base
    )
    commit = msgspec.structs.replace(word(1, epoch), checkpoint=point)
    assert await store(any_client).commit([commit]) == [0]
    assert await opened(any_client, Claim("s", lease=2), "v") == (2, point, Record())
    blob = await any_client.ask("HGET", KEYS[2], "checkpoint")
    assert msgspec.msgpack.decode(blob, type=Checkpoint) == point


async def test_the_words_of_a_segment_come_back_with_what_was_seen(
    any_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those behind the last segment that is done, over pages; entries without what was seen are left out."""
    monkeypatch.setattr("worker.io.store.PAGE_ENTRIES", 4)
    epoch, *_ = await opened(any_client, Claim("s", lease=1))
    commits = [word(seq, epoch) for seq in range(1, 15)]
    visible = [Visible((seq, seq + 1)) for seq in range(1, 14)]
    with_visible = [
        msgspec.structs.replace(commit, visible=(seen,)) for commit, seen in zip(commits, visible, strict=False)
    ]
    assert await store(any_client).commit([*with_visible, commits[-1]]) == [0] * 14
    await any_client.ask("XADD", KEYS[1], "15-0", "note", "nobody's")
    words = await store(any_client).published({"s": Progress(segment_seq=2), "t": Progress()})
    assert words == {"s": [(commits[i].events[0], visible[i]) for i in range(2, 13)], "t": []}


@pytest.mark.parametrize("field", ["checkpoint", "seq"])
async def test_an_unreadable_checkpoint_is_that_sessions_alone(any_client: Client, field: str) -> None:
    """Bytes that are none, and the fields of another version; the error says what to do."""
    await any_client.ask("HSET", KEYS[2], field, b"\xc1")
    await any_client.ask("EXPIRE", KEYS[2], 60)
    broken, whole = await store(any_client).open([Claim("s", lease=1), Claim("other", lease=1)])
    assert isinstance(broken, UnreadableCheckpoint)
    assert "delete the key" in str(broken)
    assert whole == (1, Checkpoint(), Record())


@pytest.mark.parametrize("is_alone", [True, False])
async def test_the_same_claim_twice_counts_one_failure(any_client: Client, is_alone: bool) -> None:
    """Law: a claim whose reply was lost may be sent again; a later failure counts again."""
    await opened(any_client, Claim("s", lease=1))
    for failure in range(1, QUARANTINE_OWNERS + 2):
        claim = Claim("s", lease=1, failure=failure, is_alone=is_alone)
        once, twice = [await store(any_client).open([claim]) for _ in range(2)]
        if not is_alone and failure >= QUARANTINE_OWNERS:
            assert isinstance(once[0], Suspect)
            assert isinstance(twice[0], Suspect)
        else:
            assert not isinstance(once[0], Exception)
            assert not isinstance(twice[0], Exception)
            assert once[0].record == twice[0].record
            assert once[0].record.failed_owners == failure
    found = await any_client.ask("HGET", KEYS[2], "owners")
    assert int(found) - is_alone == QUARANTINE_OWNERS + 1


async def test_failures_of_two_workers_both_count(any_client: Client) -> None:
    """Each numbers its own."""
    await opened(any_client, Claim("s", lease=1), "a")
    await opened(any_client, Claim("s", lease=1, failure=1), "a")
    taken = await opened(any_client, Claim("s", lease=2, failure=1, is_alone=True), "b")
    assert taken.record.failed_owners == 2


async def test_what_redis_cannot_do_now_is_no_missing_log(client: Client) -> None:
    """Law: a page is left out for another type only; a server in trouble interrupts, and the session is untouched."""
    await client.ask("SET", source_key("foreign"), "x", "EX", 60)
    await client.ask("XADD", source_key("s"), "1-0", "event", "{}")
    await client.ask("EXPIRE", source_key("s"), 60)
    cursors = {"s": "0-0", "foreign": "0-0"}
    assert await store(client).read(cursors) == {"s": [("1-0", {b"event": b"{}"})]}
    await client.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    await client.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(Interrupted, match=r"XRANGE on decalage:\{s\}:source: MASTERDOWN"):
            await store(client).read(cursors)
    finally:
        await client.ask("REPLICAOF", "NO", "ONE")
        await client.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")


async def test_a_denied_session_stands_apart(redis_url: str, client: Client) -> None:
    """The others' pages, states and commits go through; the denial names command and key."""
    await client.ask("ACL", "SETUSER", "w", "on", ">p", "~decalage:{workers}:*", "~decalage:{s}:*", "+@all")
    try:
        async with connect(redis_url.replace("://", "://w:p@")) as worker:
            ours, theirs = await store(worker).open([Claim("s", lease=1), Claim("x", lease=1)])
            assert ours == (1, Checkpoint(), Record())
            assert isinstance(theirs, Denied)
            assert "EVALSHA on decalage:{x}:state" in str(theirs)
            pages = await store(worker).read({"s": "0-0", "x": "0-0"})
            assert pages["s"] == []
            assert isinstance(pages["x"], Denied)
            committed, denied = await store(worker).commit([word(1, 1), word(1, 1, name="x")])
            assert committed == 0
            assert isinstance(denied, Denied)
    finally:
        await client.ask("ACL", "DELUSER", "w")

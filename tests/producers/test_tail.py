"""Reading back from real servers: how far a source goes, in which phase a target is, which session is the newest."""

import pytest
from redis.asyncio import Redis

from producers import SessionNotFound
from producers.tail import PAGE_ENTRIES, last_target_seq, newest_session, resume_outbox, target_phase
from protocol import Error, InputTextAppend, SessionCreate, SessionPhase, encode, source_key, target_key
from tests.producers.streams import publish, whole_stream


async def write_source(client: Redis, session_id: str, data: list[bytes], first_ms: int = 1) -> None:
    """The entries stand in the session's source stream."""
    for index, event in enumerate(data):
        await client.xadd(source_key(session_id), {"event": event}, id=f"{first_ms + index}-0")
    await client.expire(source_key(session_id), 100)


@pytest.mark.parametrize("num_unnumbered", [0, 1, PAGE_ENTRIES - 1, PAGE_ENTRIES, PAGE_ENTRIES + 1])
async def test_numbers_are_found_behind_raw_producers(redis_client: Redis, num_unnumbered: int) -> None:
    """Entries without numbers, put in by hand, do not hide the numbers before them, however many they are."""
    numbered = [encode(SessionCreate(seq=1)), encode(InputTextAppend(seq=2, text="a"))]
    await write_source(redis_client, "talk", numbered + [encode(InputTextAppend(text="raw"))] * num_unnumbered)
    outbox = await resume_outbox(redis_client, "talk")
    assert (outbox.next_seq, outbox.phase) == (3, SessionPhase.OPEN)


async def test_a_session_without_any_number_begins_to_count(redis_client: Redis) -> None:
    """A session opened by hand is joined with number 1."""
    await write_source(redis_client, "talk", [encode(SessionCreate()), b"broken"])
    assert (await resume_outbox(redis_client, "talk")).next_seq == 1
    with pytest.raises(SessionNotFound):
        await resume_outbox(redis_client, "nobody")


async def test_a_long_stream_is_resumed_from_its_end(redis_client: Redis) -> None:
    """More entries than a page: the newest number counts."""
    data = [encode(InputTextAppend(seq=seq, text="a")) for seq in range(2, PAGE_ENTRIES + 50)]
    await write_source(redis_client, "talk", [encode(SessionCreate(seq=1)), *data])
    assert (await resume_outbox(redis_client, "talk")).next_seq == PAGE_ENTRIES + 50


async def test_errors_do_not_hide_the_phase(redis_client: Redis) -> None:
    """The newest event that is no error tells the phase."""
    assert await target_phase(redis_client, "talk") is None
    assert await last_target_seq(redis_client, "talk") == 0
    stream = whole_stream(0)
    late = [Error(seq=4 + index, code="session_closed", message="late") for index in range(PAGE_ENTRIES)]
    await publish(redis_client, "talk", [*stream, *late])
    assert await target_phase(redis_client, "talk") is SessionPhase.CLOSED
    assert await target_phase(redis_client, "talk", "2-0") is SessionPhase.OPEN
    assert await last_target_seq(redis_client, "talk") == 3 + PAGE_ENTRIES
    await redis_client.xadd(target_key("early"), {"event": encode(Error(seq=1, code="x", message="y"))}, id="1-0")
    await redis_client.expire(target_key("early"), 100)
    assert await target_phase(redis_client, "early") is SessionPhase.ABSENT


async def test_the_newest_session_is_the_one_opened_last(any_redis_client: Redis) -> None:
    """Later words in an older session do not count; keys that name no session are passed over."""
    assert await newest_session(any_redis_client) is None
    await write_source(any_redis_client, "older", [encode(SessionCreate(seq=1))] * 9, first_ms=100)
    await write_source(any_redis_client, "newer", [encode(SessionCreate(seq=1))], first_ms=105)
    await write_source(any_redis_client, "no id", [b"x"], first_ms=900)
    assert await newest_session(any_redis_client) == "newer"

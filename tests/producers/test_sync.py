"""The publisher for programs without an event loop, on a real server."""

import asyncio

import pytest
import redis
from redis.asyncio import Redis

from producers import SessionExists, SessionNotFound, SyncPublisher, WrongShards
from protocol import ClientEvent, Session, SessionPatch, SessionPhase, wire_type
from protocol.keys import SHARDS_KEY
from tests.producers.streams import source_events


def written(url: str, session_id: str) -> list[ClientEvent]:
    """The session's source stream."""

    async def read() -> list[ClientEvent]:
        async with Redis.from_url(url) as client:
            return await source_events(client, session_id)

    return asyncio.run(read())


def test_every_call_has_its_event_in_the_stream(any_redis_url: str) -> None:
    """Numbered, in order; a second publisher goes on where the first one ended."""
    with SyncPublisher(any_redis_url, "talk", Session(target_language="fr")) as publisher:
        publisher.create()
        publisher.append("two words")
        assert (publisher.phase, publisher.num_unsent_events) == (SessionPhase.OPEN, 0)
    with SyncPublisher.join(any_redis_url, "talk") as publisher:
        publisher.update(SessionPatch(target_language="de"))
        publisher.finalize()
        publisher.close()
        publisher.flush()
        assert publisher.session_id == "talk"
    events = written(any_redis_url, "talk")
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [wire_type(type(event)) for event in events] == [
        *("session.create", "input_text.append", "session.update", "input_text.finalize", "session.close"),
    ]


def test_errors_are_those_of_the_other_publisher(any_redis_url: str) -> None:
    """A taken id, a session that is not there."""
    with SyncPublisher(any_redis_url, "talk") as publisher:
        publisher.create()
    with SyncPublisher(any_redis_url, "talk") as publisher, pytest.raises(SessionExists):
        publisher.create()
    with pytest.raises(SessionNotFound):
        SyncPublisher.join(any_redis_url, "nobody")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("4", r"expected 16 shards.* in decalage:{workers}:shards .*, got '4': name .*num_shards=4"),
        ("many", r"expected 16 shards.* in decalage:{workers}:shards .*, got 'many': .*delete it, and restart"),
    ],
)
def test_another_number_of_shards_is_refused(redis_url: str, found: str, said: str) -> None:
    """Before anything is written; the key, both numbers and the remedy are told, also where none is a number."""
    with redis.Redis.from_url(redis_url) as client:
        client.set(SHARDS_KEY, found)
    with SyncPublisher(redis_url, "talk") as publisher, pytest.raises(WrongShards, match=said):
        publisher.create()
    assert written(redis_url, "talk") == []


def test_the_workers_number_of_shards_is_taken(redis_url: str) -> None:
    """A publisher that was told it counts as they do."""
    with redis.Redis.from_url(redis_url) as client:
        client.set(SHARDS_KEY, 4)
    with SyncPublisher(redis_url, "talk", num_shards=4) as publisher:
        publisher.create()
    assert len(written(redis_url, "talk")) == 1

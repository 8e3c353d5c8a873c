"""The publisher on real servers: what it is told is what a worker reads, once and in order."""

import asyncio
import math
import socket
from secrets import token_hex
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from producers import BrokerRefused, BrokerUnreachable, Publisher, SessionExists, SessionNotFound
from protocol import (
    ClientEvent,
    IllegalEvent,
    InputTextAppend,
    InputTextFinalize,
    InvalidSessionId,
    Session,
    SessionClose,
    SessionCreate,
    SessionPatch,
    SessionUpdate,
    bell_key,
    shard_of,
    source_key,
)
from protocol.keys import ABANDONED_TTL_S
from tests.producers.proxy import Proxy
from tests.producers.streams import publish, source_events, whole_stream


async def test_every_call_is_one_numbered_event(any_redis_url: str, any_redis_client: Redis) -> None:
    """The source stream holds what was said, in order, numbered from 1, on real servers and fakeredis."""
    session = Session(target_language="fr")
    async with Publisher(any_redis_url, "talk", session) as publisher:
        await publisher.create()
        await publisher.append("two words")
        await publisher.update(SessionPatch(prompt="Be brief."))
        await publisher.finalize()
        await publisher.close()
    assert await source_events(any_redis_client, "talk") == [
        SessionCreate(seq=1, session=session),
        InputTextAppend(seq=2, text="two words"),
        SessionUpdate(seq=3, session=SessionPatch(prompt="Be brief.")),
        InputTextFinalize(seq=4),
        SessionClose(seq=5),
    ]


async def test_events_sent_together_are_events_sent_one_by_one(redis_url: str, redis_client: Redis) -> None:
    """Same events, same numbers, one ring; where one is refused, those before it are in the stream."""
    events: list[ClientEvent] = [InputTextAppend(text="a b"), InputTextFinalize(), InputTextAppend(text="c")]
    async with Publisher(redis_url, "one-by-one") as alone, Publisher(redis_url, "together") as together:
        await alone.create()
        await together.create()
        for event in events:
            await alone.send(event)
        await together.send(*events)
        with pytest.raises(IllegalEvent):
            await together.send(SessionClose(), InputTextAppend(text="late"))
        await alone.close()
    assert await source_events(redis_client, "together") == await source_events(redis_client, "one-by-one")
    rings = {}
    for name in ("one-by-one", "together"):
        bell: Any = await redis_client.xrange(bell_key(shard_of(name)))
        rings[name] = sum(fields[b"session"] == name.encode() for _, fields in bell)
    assert rings == {"one-by-one": 5, "together": 3}


async def test_the_bell_rings_after_each_append(redis_url: str, redis_client: Redis) -> None:
    """Seen from the server, every entry is followed by a ring of its shard's bell with the session's id."""
    async with redis_client.monitor() as monitor, Publisher(redis_url, "talk", num_shards=4) as publisher:
        await publisher.create()
        await publisher.append("a b")
        commands: list[str] = []
        while len(commands) < 4:
            command = (await monitor.next_command())["command"].split()
            commands += [command[1]] if command[0] == "XADD" else []
    bell = bell_key(shard_of("talk", 4))
    assert commands == [source_key("talk"), bell, source_key("talk"), bell]
    rings: Any = await redis_client.xrange(bell)
    assert [fields for _, fields in rings] == [{b"session": b"talk"}] * 2


async def test_keys_expire_when_nobody_writes(redis_url: str, redis_client: Redis) -> None:
    """Each write sets the time to live anew."""
    async with Publisher(redis_url, "talk") as publisher:
        await publisher.create()
        await redis_client.expire(source_key("talk"), 5)
        await publisher.append("a")
    assert ABANDONED_TTL_S - 60 < await redis_client.ttl(source_key("talk")) <= ABANDONED_TTL_S


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text("abc ", max_size=5), min_size=1, max_size=8))
def test_joining_anywhere_goes_on_with_the_numbers(redis_url: str, texts: list[str]) -> None:
    """Each text sent by a publisher of its own: the stream is as if one had sent all."""
    session_id = f"talk-{token_hex(8)}"

    async def story() -> list[int | None]:
        async with Redis.from_url(redis_url) as client, Publisher(client, session_id) as publisher:
            await publisher.create()
            for text in texts:
                async with await Publisher.join(redis_url, session_id) as joined:
                    await joined.append(text)
            events = await source_events(client, session_id)
            assert [event.text for event in events if isinstance(event, InputTextAppend)] == texts
            return [event.seq for event in events]

    assert asyncio.run(story()) == list(range(1, len(texts) + 2))


async def test_concurrent_calls_keep_the_order_of_numbers(redis_url: str, redis_client: Redis) -> None:
    """A hundred appends at once come out numbered without gap, in the order of the stream."""
    async with Publisher(redis_url, "talk") as publisher:
        await publisher.create()
        await asyncio.gather(*(publisher.append(str(index)) for index in range(100)))
    assert [event.seq for event in await source_events(redis_client, "talk")] == list(range(1, 102))


async def test_a_lost_reply_makes_copies_with_the_same_number(redis_url: str, redis_client: Redis) -> None:
    """redis-py sends again what the server had done; the worker can tell, because the copies share their number."""
    async with Proxy(redis_url) as proxy, Publisher(proxy.url, "talk") as publisher:
        await publisher.create()
        proxy.num_replies_to_drop = 1
        await publisher.append("once")
        await publisher.append("after")
    events = await source_events(redis_client, "talk")
    assert [event.seq for event in events] == [1, 2, 2, 3]
    assert events[1] == events[2] == InputTextAppend(seq=2, text="once")


async def test_events_wait_for_a_broker_that_went_away(redis_url: str, redis_client: Redis) -> None:
    """The call fails soon and says where; its event goes out before the next one, with its number."""
    async with Proxy(redis_url) as proxy, Publisher(proxy.url, "talk") as publisher:
        await publisher.create()
        await proxy.down()
        with pytest.raises(BrokerUnreachable, match=publisher.address):
            await publisher.append("kept")
        assert publisher.num_unsent_events == 1
        await proxy.up()
        await publisher.append("next")
        await publisher.flush()
        assert publisher.num_unsent_events == 0
    assert [event.seq for event in await source_events(redis_client, "talk")] == [1, 2, 3]


async def test_an_unreachable_broker_is_named_without_its_password() -> None:
    """The error has the address and a remedy."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with Publisher(f"redis://user:secret@127.0.0.1:{port}/2") as publisher:
        with pytest.raises(BrokerUnreachable, match=rf"redis://127\.0\.0\.1:{port}/2.*Start it") as failure:
            await publisher.create()
    assert "secret" not in str(failure.value)


async def test_a_key_of_another_type_is_reported(redis_url: str, redis_client: Redis) -> None:
    """What Redis itself refuses comes with its reason, and nothing counts as sent."""
    async with Publisher(redis_url, "talk") as publisher:
        await publisher.create()
        await redis_client.set(source_key("talk"), "mine", ex=100)
        with pytest.raises(BrokerRefused, match="WRONGTYPE"):
            await publisher.append("a")
        assert publisher.num_unsent_events == 1


async def test_an_id_that_is_taken_is_refused(redis_url: str) -> None:
    """A second session under the same id would be lost as duplicates; it is refused before it begins."""
    async with Publisher(redis_url, "talk") as first, Publisher(redis_url, "talk") as second:
        await first.create()
        with pytest.raises(SessionExists, match="talk"):
            await second.create()
        with pytest.raises(IllegalEvent):
            await first.create()


async def test_joining_nothing_is_an_error(redis_url: str) -> None:
    """The error names the session."""
    with pytest.raises(SessionNotFound, match="none named talk"):
        await Publisher.join(redis_url, "talk")


async def test_joining_a_session_that_a_worker_closed_says_so(redis_url: str, redis_client: Redis) -> None:
    """The target stream tells that the session is closed, though the source stream does not."""
    async with Publisher(redis_url, "talk") as publisher:
        await publisher.create()
    await publish(redis_client, "talk", whole_stream(1))
    async with await Publisher.join(redis_url, "talk") as joined:
        with pytest.raises(IllegalEvent, match="closed"):
            await joined.append("late")


async def test_a_client_that_was_handed_in_stays_open(redis_url: str, redis_client: Redis) -> None:
    """The publisher uses it and does not close it; ids of its own are valid and differ."""
    async with Publisher(redis_client) as one, Publisher(redis_client) as two:
        await one.create()
        assert one.session_id != two.session_id
    assert await redis_client.exists(source_key(one.session_id)) == 1
    assert one.address == redis_url.rstrip("/") if redis_url.count("/") == 3 else f"{redis_url}/0"


def test_an_impossible_id_is_refused_at_once() -> None:
    """Before any connection."""
    with pytest.raises(InvalidSessionId):
        Publisher("redis://127.0.0.1", "no spaces")


async def test_patience_waits_for_a_redis_that_is_away(redis_url: str, redis_client: Redis) -> None:
    """A call made while nobody answers returns once Redis is back; nothing is doubled, and the order stays."""
    async with Proxy(redis_url) as proxy, Publisher(proxy.url, "talk", patience_s=math.inf) as publisher:
        await publisher.create()
        await proxy.down()
        calls = [asyncio.create_task(publisher.append(str(number))) for number in range(3)]
        _, waiting = await asyncio.wait(calls, timeout=0.01)
        assert len(waiting) == 3
        await proxy.up()
        await asyncio.gather(*calls)
        assert publisher.num_unsent_events == 0
    assert [event.seq for event in await source_events(redis_client, "talk")] == [1, 2, 3, 4]


async def test_a_bell_that_cannot_ring_is_no_failure(redis_url: str, redis_client: Redis) -> None:
    """The event is in its stream, where a worker's sweep finds it: who called must not think that it is not."""
    await redis_client.set(bell_key(shard_of("talk")), "no stream")
    async with Publisher(redis_url, "talk") as publisher:
        await publisher.create()
        assert publisher.num_unsent_events == 0
    assert [event.seq for event in await source_events(redis_client, "talk")] == [1]
    await redis_client.delete(bell_key(shard_of("talk")))

"""The subscriber on real servers: the target stream exactly, through whatever happens to the connection."""

import asyncio
import logging
import socket
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from producers import BrokerRefused, BrokerUnreachable, Subscriber, TargetGap
from producers.connection import backoff_s
from protocol import Error, InvalidSessionId, ServerEvent, target_key
from tests.producers.proxy import Proxy
from tests.producers.streams import publish, whole_stream


async def collect(events: Subscriber) -> list[ServerEvent]:
    """All events to the end."""
    async with events:
        return [event async for event in events]


async def test_the_stream_is_delivered_and_ends(any_redis_url: str, any_redis_client: Redis) -> None:
    """Every event once, in order, typed; then the iteration is over. With a URL, or a client of any settings."""
    stream = whole_stream(5)
    await publish(any_redis_client, "talk", stream)
    assert await collect(Subscriber(any_redis_url, "talk")) == stream
    async with Redis.from_url(any_redis_url, decode_responses=True, protocol=3) as client:
        assert await collect(Subscriber(client, "talk")) == stream
        assert await client.ping()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_deltas=st.integers(0, 12), data=st.data())
def test_any_pieces_and_any_cuts_give_the_whole_stream(redis_url: str, num_deltas: int, data: st.DataObject) -> None:
    """The stream comes in pieces, with the connection lost between and during them, and read by one subscriber after
    another: together they have each event once."""
    stream = whole_stream(num_deltas)
    session_id = f"talk-{token_hex(8)}"
    is_cut = data.draw(st.lists(st.booleans(), min_size=len(stream), max_size=len(stream)))
    is_handed_over = data.draw(st.lists(st.booleans(), min_size=len(stream), max_size=len(stream)))

    async def story() -> list[ServerEvent]:
        delivered: list[ServerEvent] = []
        async with Proxy(redis_url) as proxy, Redis.from_url(redis_url) as client:
            events = Subscriber(proxy.url, session_id)
            for event, cut, handed_over in zip(stream, is_cut, is_handed_over, strict=True):
                coming = asyncio.ensure_future(anext(events))
                if cut:
                    await asyncio.sleep(0)
                    proxy.cut()
                await publish(client, session_id, [event])
                delivered.append(await coming)
                if handed_over:
                    await events.disconnect()
                    events = Subscriber(proxy.url, session_id, after=events.last_seq)
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            await events.disconnect()
        return delivered

    assert asyncio.run(story()) == stream


async def test_killed_connections_are_replaced(redis_url: str, redis_client: Redis) -> None:
    """CLIENT KILL in the middle of the blocking read costs no event."""
    stream = whole_stream(3)
    async with Subscriber(redis_url, "talk") as events:
        for event in stream:
            coming = asyncio.ensure_future(anext(events))
            num_killed = 0
            while not num_killed:
                num_killed = await redis_client.client_kill_filter(_type="normal", skipme=True)
            await publish(redis_client, "talk", [event])
            assert await coming == event


class Warned(logging.Handler):
    """Keeps messages, and tells those who wait when the first has come."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.has_come = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.has_come.set()


async def test_a_broker_that_comes_back_is_read_on(redis_url: str, redis_client: Redis) -> None:
    """While nobody listens, the subscriber waits, says so once, and then goes on behind the last event."""
    stream = whole_stream(2)
    warned = Warned()
    logger = logging.getLogger("producers.subscriber")
    logger.addHandler(warned)
    async with Proxy(redis_url) as proxy, Subscriber(proxy.url, "talk") as events:
        await publish(redis_client, "talk", stream[:1])
        assert await anext(events) == stream[0]
        await proxy.down()
        rest = asyncio.ensure_future(collect(events))
        await publish(redis_client, "talk", stream[1:])
        await warned.has_come.wait()
        await proxy.up()
        assert await rest == stream[1:]
    logger.removeHandler(warned)
    assert warned.messages == [f"Redis at {proxy.url} is gone, will read on from event 1"]


@pytest.mark.parametrize("after", range(8))
async def test_after_resumes_without_gap_or_duplicate(redis_url: str, redis_client: Redis, after: int) -> None:
    """`after=n` delivers the events from n+1 on; behind the end there is nothing to wait for."""
    stream = whole_stream(3)
    late = Error(seq=7, code="session_closed", message="late")
    await publish(redis_client, "talk", [*stream, late])
    assert await collect(Subscriber(redis_url, "talk", after=after)) == stream[after:]


async def test_a_gap_is_an_error_after_what_came_before_it(redis_url: str, redis_client: Redis) -> None:
    """Events before the gap are delivered, then the error names what is missing."""
    stream = whole_stream(3)
    await publish(redis_client, "talk", stream[:2] + stream[3:])
    async with Subscriber(redis_url, "talk") as events:
        assert [await anext(events), await anext(events)] == stream[:2]
        with pytest.raises(TargetGap, match="expected event 3 of session talk, got 4"):
            await anext(events)


async def test_a_trimmed_stream_is_a_gap(redis_url: str, redis_client: Redis) -> None:
    """Who reads on behind events that retention has taken learns it; from there on, reading works."""
    stream = whole_stream(6)
    await publish(redis_client, "talk", stream)
    await redis_client.xtrim(target_key("talk"), minid="5-0", approximate=False)
    with pytest.raises(TargetGap, match="expected event 3"):
        await collect(Subscriber(redis_url, "talk", after=2))
    assert await collect(Subscriber(redis_url, "talk", after=4)) == stream[4:]


async def test_silence_beyond_the_time_out_names_the_session(redis_url: str) -> None:
    """TimeoutError, with the session, the broker and the number waited for."""
    async with Subscriber(redis_url, "nobody", timeout_s=0.05) as events:
        with pytest.raises(TimeoutError, match="session nobody after number 0"):
            await anext(events)


async def test_the_time_out_counts_silence_only(redis_url: str, redis_client: Redis) -> None:
    """A cancelled wait loses nothing: the event that comes later is delivered."""
    async with Subscriber(redis_url, "talk", timeout_s=0.05) as events:
        with pytest.raises(TimeoutError):
            await anext(events)
        await publish(redis_client, "talk", whole_stream(0))
        assert [event async for event in events] == whole_stream(0)


async def test_a_broker_that_never_answered_is_an_error() -> None:
    """At first nobody waits for ever: the address may simply be wrong."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with Subscriber(f"redis://:secret@127.0.0.1:{port}", "talk") as events:
        with pytest.raises(BrokerUnreachable, match=str(port)) as failure:
            await anext(events)
    assert "secret" not in str(failure.value)


async def test_a_key_of_another_type_is_reported(redis_url: str, redis_client: Redis) -> None:
    """What Redis refuses is not tried again."""
    await redis_client.set(target_key("talk"), "mine", ex=100)
    async with Subscriber(redis_url, "talk") as events:
        with pytest.raises(BrokerRefused, match="WRONGTYPE"):
            await anext(events)


async def test_a_wrong_password_is_not_tried_again(redis_url: str) -> None:
    """The server's refusal comes through."""
    async with Subscriber(redis_url.replace("redis://", "redis://nobody:secret@"), "talk") as events:
        with pytest.raises(BrokerRefused) as failure:
            await anext(events)
    assert "secret" not in str(failure.value)


def test_bad_arguments_are_refused_at_once() -> None:
    """Before any connection."""
    with pytest.raises(InvalidSessionId):
        Subscriber("redis://127.0.0.1", "no spaces")
    with pytest.raises(ValueError, match="after >= 0"):
        Subscriber("redis://127.0.0.1", "talk", after=-1)


def test_pauses_grow_to_a_second() -> None:
    """Never shrinking, never above one second."""
    pauses = [backoff_s(num_failures) for num_failures in range(1, 2000)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0

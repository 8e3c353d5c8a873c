"""Feeds: what is recent from memory, what is older from Redis, each event once and in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from producers.connection import open_follower, open_writer
from producers.errors import TargetGap
from producers.gateway import feeds as module
from producers.gateway.feeds import Feed, Feeds
from producers.gateway.listening import listen
from producers.gateway.readers import GROUP_SESSIONS, Readers
from protocol import Error, ServerEvent, SessionPhase, encode, target_key
from protocol.keys import EVENT_FIELD
from tests.producers.gateway.conftest import DEADLINE_S
from tests.producers.streams import delta, publish, whole_stream


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Feeds]:
    """Feeds on this server."""
    lookups, reads = open_writer(url), open_follower(url)
    readers = Readers(reads, lookups)
    try:
        yield Feeds(lookups, readers)
    finally:
        await readers.close()
        await lookups.close()
        await reads.close()


async def heard(feed: Feed, after: int = 0) -> list[int]:
    """Return the numbers of all events behind `after`."""
    numbers = []
    async with asyncio.timeout(DEADLINE_S):
        async for events in listen(feed, after, DEADLINE_S):
            numbers += [event.seq for event in events]
    return numbers


async def test_everything_from_every_position(redis_url: str, redis_client: Redis) -> None:
    """A stream much longer than the memory of a feed comes whole, page by page, then from memory."""
    events = whole_stream(3 * module.RECENT_EVENTS)
    await publish(redis_client, "talk", events)
    async with opened(redis_url) as feeds, feeds.open("talk") as feed:
        for after in (0, 1, 300, len(events) - 257, len(events) - 256, len(events) - 1, len(events)):
            assert await heard(feed, after) == list(range(after + 1, len(events) + 1))


async def test_many_sessions_at_once(redis_url: str, redis_client: Redis) -> None:
    """More sessions than one read takes, which join while others are being read: each gets its own events."""
    names = [f"talk-{index}" for index in range(GROUP_SESSIONS + 6)]
    async with opened(redis_url) as feeds, AsyncExitStack() as stack:
        listening = []
        for name in names:
            feed = await stack.enter_async_context(feeds.open(name))
            listening.append(asyncio.create_task(heard(feed)))
        for name in reversed(names):
            await publish(redis_client, name, whole_stream(3))
        assert await asyncio.gather(*listening) == [[1, 2, 3, 4, 5, 6]] * len(names)
        assert len(feeds) == len(names)
    assert len(feeds) == 0
    await redis_client.delete(*map(target_key, names))


async def test_listeners_that_come_and_go(redis_url: str, redis_client: Redis) -> None:
    """A session that loses its last listener is read anew for the next one; nothing is lost between."""
    events = whole_stream(20)
    async with opened(redis_url) as feeds:
        seen: list[int] = []
        for event in events:
            await publish(redis_client, "talk", [event])
            async with feeds.open("talk") as feed, asyncio.timeout(DEADLINE_S):
                while not (news := await feed.next(len(seen), DEADLINE_S)):
                    pass
                seen += [each.seq for each in news]
    assert seen == list(range(1, len(events) + 1))


async def test_a_gap_is_an_error(redis_url: str, redis_client: Redis) -> None:
    """Trimmed events are never skipped silently, neither at the start nor in the middle."""
    events = whole_stream(5)
    await publish(redis_client, "talk", events[3:])
    async with opened(redis_url) as feeds:
        async with feeds.open("talk") as feed:
            assert await heard(feed, 3) == [4, 5, 6, 7, 8]
            with pytest.raises(TargetGap) as gap:
                await heard(feed, 1)
            assert (gap.value.expected, gap.value.got) == (2, 4)
        async with feeds.open("new") as feed:
            await publish(redis_client, "new", [events[0], events[2]])
            with pytest.raises(TargetGap):
                await heard(feed)


async def test_an_entry_that_is_no_event_ends_only_its_session(redis_url: str, redis_client: Redis) -> None:
    """The others of the same read go on."""
    async with opened(redis_url) as feeds, feeds.open("bad") as bad, feeds.open("good") as good:
        await redis_client.xadd(target_key("bad"), {EVENT_FIELD: "{"}, id="1-0")
        await redis_client.expire(target_key("bad"), 100)
        with pytest.raises(Exception, match="truncated"):
            await heard(bad)
        await publish(redis_client, "good", whole_stream(1))
        assert await heard(good) == [1, 2, 3, 4]


def entries(events: list[ServerEvent]) -> list[Any]:
    """Return stream entries as redis-py does."""
    return [(f"{event.seq}-0".encode(), {EVENT_FIELD.encode(): encode(event)}) for event in events]


@given(cuts=st.lists(st.integers(0, 12)), repeats=st.integers(0, 3))
def test_any_pages_give_the_same_stream(cuts: list[int], repeats: int) -> None:
    """However entries are cut into pages, and if some come again, a feed knows each event once."""
    events = whole_stream(9)
    feed = Feed("talk", None)  # type: ignore[arg-type]  # it reads nothing
    edges = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    for start, end in pairwise(edges):
        feed.extend(entries(events[max(0, start - repeats) : end]))
    assert feed.last_seq == len(events)
    assert (feed.phase, feed.is_over, feed.has_ended(len(events) - 1)) == (SessionPhase.CLOSED, True, False)


def test_where_a_stream_ends() -> None:
    """With `session.closed`, or with an error in place of `session.created`; not with an error in the middle."""
    refused = Error(seq=1, code="worker_full", message="full")
    feed = Feed("a", None)  # type: ignore[arg-type]
    feed.extend(entries([refused]))
    assert feed.is_over
    feed = Feed("b", None)  # type: ignore[arg-type]
    feed.extend(entries([whole_stream(0)[0], Error(seq=2, code="invalid_event", message="wrong")]))
    assert not feed.is_over
    feed = Feed("c", None)  # type: ignore[arg-type]
    feed.extend(entries([delta(7)]), is_start=True)
    assert (feed.phase, feed.is_over) == (SessionPhase.OPEN, False)

"""A session's keys on real servers."""

import redis.asyncio

from protocol import OutputTextDelta, source_key, state_key, target_key
from protocol.keys import ABANDONED_TTL_S, CLOSED_TTL_S
from worker.core.replay import Progress
from worker.io.store import Checkpoint, Claim, Commit, Store

KEYS = (source_key("s"), target_key("s"), state_key("s"))


def word(seq: int, epoch: int, status: str = "open") -> Commit:
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
    return Commit("s", epoch, (event,), Checkpoint(status=status, progress=Progress(seq=seq)))


async def test_a_commit_renews_what_keys_have_to_live_once_a_tenth_has_gone(
    any_redis_client: redis.asyncio.Redis,
) -> None:
    """All three have a TTL from the first event on, never much less than what is promised; closed, they go sooner."""
    client, store = any_redis_client, Store(any_redis_client, "w")
    await client.xadd(KEYS[0], {"event": "{}"})  # by somebody who gives no TTL
    ((epoch, _),) = await store.open([Claim("s", lease=1)])  # type: ignore[misc]

    async def lives_s(seq: int, status: str = "open") -> list[int]:
        assert await store.commit([word(seq, epoch, status)]) == [0]
        return [await client.ttl(key) for key in KEYS]

    assert all(ABANDONED_TTL_S - 60 < left <= ABANDONED_TTL_S for left in await lives_s(1))
    fresh, old = int(0.95 * ABANDONED_TTL_S), int(0.85 * ABANDONED_TTL_S)
    for key in KEYS:
        await client.expire(key, fresh)
    assert all(fresh - 60 < left <= fresh for left in await lives_s(2))
    for key in KEYS:
        await client.expire(key, old)
    assert all(ABANDONED_TTL_S - 60 < left <= ABANDONED_TTL_S for left in await lives_s(3))
    await client.delete(KEYS[1])  # somebody's mistake: what is written anew lives no longer than the rest
    assert all(ABANDONED_TTL_S - 60 < left <= ABANDONED_TTL_S for left in await lives_s(4))
    assert all(CLOSED_TTL_S - 60 < left <= CLOSED_TTL_S for left in await lives_s(5, "closed"))
    assert await store.commit([word(5, epoch, "closed")]) == [1]

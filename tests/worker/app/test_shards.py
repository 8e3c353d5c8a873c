"""Several workers on one Redis: who has which session, and what happens where it changes hands."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection

import pytest

from protocol import shard_of
from tests.worker.app.conftest import (
    DEADLINE_S,
    FINALIZE,
    Raw,
    Running,
    append,
    create,
    new_worker,
    until,
    untimed,
)
from worker.app.engine import Engine
from worker.app.shards import Shards
from worker.app.worker import Worker
from worker.core.leases import Peer
from worker.io.client import Client
from worker.io.leases import Leases, Seen, WrongShards

PEER = Peer(weight=5)
TEXT = "Please close the window before you leave the room."
LEASE = {"lease_ms": 400}


def owned(*services: Worker) -> list[int]:
    """All shards that the workers hold, sorted."""
    return sorted(shard for worker in services for shard in worker.shards.held)


async def say_some(raw: Raw, names: list[str]) -> None:
    """Sessions in the middle of a sentence."""
    await asyncio.gather(*(raw.say(name, create(), append("Please close the window")) for name in names))
    await asyncio.gather(*(raw.hear(name, "output_text.delta", count=2) for name in names))


async def check_whole(raw: Raw, running_names: list[str]) -> None:
    """Each session's rest is said, and its output is that of one that nothing has happened to."""
    await raw.say("whole", create(), append("Please close the window"), append("before you leave the room."), FINALIZE)
    whole = await raw.hear("whole")
    await asyncio.gather(*(raw.say(n, append("before you leave the room."), FINALIZE) for n in running_names))
    for heard in await asyncio.gather(*(raw.hear(name) for name in running_names)):
        assert untimed(heard) == untimed(whole)


async def test_a_second_worker_gets_half_and_sessions_go_on(raw: Raw, running: Running) -> None:
    """Shards move in steps until each has its share; every session goes on where it was, under its new owner."""
    names = [f"s{i}" for i in range(12)]
    async with running(**LEASE) as first:
        await say_some(raw, names)
        async with running(**LEASE) as second:
            await until(lambda: len(first.shards.held) == len(second.shards.held) == 8)
            assert owned(first, second) == list(range(16))
            await check_whole(raw, names)
            assert {n for n in names if n in second.table} == {n for n in names if shard_of(n) in second.shards.held}
            assert any(name in second.table for name in names)
            assert not any(name in first.table and name in second.table for name in names)
        await until(lambda: len(first.shards.held) == 16)


async def test_a_worker_that_stops_leaves_its_sessions_to_the_other(raw: Raw, running: Running) -> None:
    """Its leases are given back, not waited for: with leases of an hour, the other has them all the same."""
    names = [f"s{i}" for i in range(6)]
    async with contextlib.AsyncExitStack() as both:
        first = await both.enter_async_context(running(lease_ms=3_600_000))
        await say_some(raw, names)
        second = await both.enter_async_context(running(lease_ms=3_600_000))
        first.stop()
        await until(lambda: len(second.shards.held) == 16)
        await check_whole(raw, names)


class Late(Leases):
    """When this worker first asks for shards, a rival has just taken two of them."""

    rival: Leases
    has_lost = False

    async def exchange(self, about: Peer | None, *, hold: Collection[int] = (), give: Collection[int] = ()) -> Seen:
        """As any other, but late."""
        if hold and not self.has_lost:
            self.has_lost = True
            await self.rival.exchange(PEER, hold=sorted(hold)[:2])
        return await super().exchange(about, hold=hold, give=give)


async def test_who_comes_too_late_for_some_shards_takes_others_at_once(client: Client) -> None:
    """Workers that hear at the same moment of shards that are free leave none of them for later."""
    hour_ms = 3_600_000
    late = Late(client, "late", 8, hour_ms)
    late.rival = Leases(client, "rival", 8, hour_ms)
    await late.rival.exchange(PEER)
    ownership = Shards(late, "late", 8, hour_ms)
    await ownership.look(PEER)
    assert len(ownership.held) == 4
    owners = Counter(lease.owner for lease in (await late.exchange(PEER)).leases)
    assert owners == {"late": 4, "rival": 2, "": 2}


async def asleep(*_: object) -> None:
    """Comes back only when it is cancelled."""
    await asyncio.Event().wait()


async def test_a_worker_that_was_asleep_stops_by_its_own_clock(
    raw: Raw, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its leases have run out unrenewed, it takes and publishes nothing until Redis says they are its own."""
    async with running(lease_ms=200) as worker:
        await say_some(raw, ["talk"])
        handle = worker.table.get("talk")
        monkeypatch.setattr(worker.shards, "look", asleep)
        await until(lambda: not worker.shards.held)
        assert worker.shards.epoch_of("talk") is None
        assert not worker.shards.may_publish("talk")
        assert handle is not None


async def test_what_redis_has_forgotten_is_taken_again(raw: Raw, running: Running) -> None:
    """All leases deleted: the worker takes them under later epochs, and its sessions anew."""
    async with running(**LEASE) as worker:
        await say_some(raw, ["talk"])
        before = worker.shards.epoch_of("talk")
        await raw.client.delete(*(f"decalage:{{workers}}:lease:{shard}" for shard in range(16)))
        await until(lambda: (worker.shards.epoch_of("talk") or 0) > (before or 0))
        await check_whole(raw, ["talk"])


@pytest.mark.leaves_keys
async def test_an_earlier_lease_takes_no_session(raw: Raw, running: Running) -> None:
    """A session that was taken under a later lease is refused to this worker, which counts that."""
    async with running(**LEASE) as worker:
        await until(lambda: len(worker.shards.held) == 16)
        await raw.client.hset("decalage:{talk}:state", mapping={"lease": 2**52})
        await raw.client.expire("decalage:{talk}:state", 60)
        await raw.say("talk", create())
        await until(lambda: (worker.metrics.registry.get_sample_value("decalage_fenced_commits_total") or 0) > 0)
        assert "talk" not in worker.table


async def test_the_number_of_shards_is_fixed_at_the_first_start(
    raw: Raw, running: Running, redis_url: str, engine: Engine
) -> None:
    """A worker that counts otherwise is refused, with both numbers and the remedy; one that agrees is not."""
    async with running(num_shards=4) as worker:
        await until(lambda: len(worker.shards.held) == 4)
        await raw.say("talk", create(), append(TEXT), FINALIZE)
        await raw.hear("talk")
    with pytest.raises(WrongShards, match=r"4 shards .* set to 16; set DECALAGE_NUM_SHARDS=4"):
        await asyncio.wait_for(new_worker(redis_url, engine).run(), DEADLINE_S)
    await raw.client.set("decalage:{workers}:shards", "many")
    with pytest.raises(WrongShards, match=r"decalage:{workers}:shards, got 'many': .*delete it"):
        await asyncio.wait_for(new_worker(redis_url, engine).run(), DEADLINE_S)

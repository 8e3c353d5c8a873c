"""The sessions of a shard, on real servers."""

import pytest

from protocol import shard_of, source_key, state_key
from protocol.keys import ABANDONED_TTL_S, NUM_SHARDS, index_key
from tests.worker.io.test_store import opened, store, word
from worker.io import index as module
from worker.io.client import Client
from worker.io.index import SessionIndex
from worker.io.store import Claim

ALL = range(NUM_SHARDS)


async def test_a_session_stands_there_from_its_first_claim_to_its_end(any_client: Client) -> None:
    """Before it has a state, and until its closing is committed; a closed one that is claimed again leaves again."""
    index = SessionIndex(any_client, NUM_SHARDS)
    names = [f"s{i}" for i in range(40)]
    await store(any_client).open([Claim(name, lease=1) for name in names])
    assert sorted(await index.sessions(ALL)) == sorted(names)
    shard = shard_of("s7")
    assert await index.sessions([shard]) == [name for name in sorted(names) if shard_of(name) == shard]
    await store(any_client).commit([word(1, 1, "closed", "s7"), word(1, 1, "open", "s8")])
    assert "s7" not in await index.sessions(ALL)
    await opened(any_client, Claim("s7", lease=2))
    assert sorted(await index.sessions(ALL)) == sorted(set(names) - {"s7"})


async def test_who_dies_between_entry_and_state_loses_nothing(any_client: Client) -> None:
    """A session that has a log is found without a state; one that has neither is dropped."""
    index = SessionIndex(any_client, NUM_SHARDS)
    await index.add(["logged", "gone"])
    await any_client.ask("XADD", source_key("logged"), "1-0", "event", "{}")
    await any_client.ask("EXPIRE", source_key("logged"), 60)
    assert await index.sessions(ALL) == ["logged"]
    assert await any_client.ask("ZSCORE", index_key(shard_of("gone")), "gone") is None


async def test_entries_end_by_themselves_unless_they_are_renewed(
    any_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set has a TTL, and whoever enters one session drops those that nobody has renewed."""
    index, key = SessionIndex(any_client, 1), index_key(0)
    await index.add(["old", "kept"])
    assert ABANDONED_TTL_S - 60 < await any_client.ask("TTL", key) <= ABANDONED_TTL_S
    await any_client.ask("ZADD", key, 1_000, "old", 1_000, "kept")
    await index.renew(["kept"])
    assert await any_client.ask("ZSCORE", key, "kept") == b"1000"  # not an hour yet
    monkeypatch.setattr(module, "RENEWAL_S", 0.0)
    await index.renew(["kept"])
    assert await any_client.ask("ZRANGE", key, 0, -1) == [b"kept"]


async def test_a_takeover_costs_nothing_for_others_keys(client: Client) -> None:
    """Law: 500 sessions among 200,000 keys of others are found without a SCAN, in few commands."""
    fill = "for i = 1, 200000 do redis.call('SET', 'other:' .. i, '', 'EX', 600) end"
    await client.ask("EVAL", fill, 0)
    names = [f"s{i}" for i in range(500)]
    await store(client).open([Claim(name, lease=1) for name in names])
    await client.ask("CONFIG", "RESETSTAT")
    found = await SessionIndex(client, NUM_SHARDS).sessions(ALL)
    await store(client, "next").open([Claim(name, lease=2) for name in found])
    stats: bytes = await client.ask("INFO", "commandstats")
    assert sorted(found) == sorted(names)
    assert b"cmdstat_scan" not in stats
    assert b"cmdstat_keys" not in stats
    await client.call([("EXPIRE", state_key(name), 60) for name in names])

"""What a user may not do in Redis is found, named, and leaves no trace."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from worker.commands import check_redis
from worker.io.client import connect
from worker.io.rehearsal import ROLES, denials
from worker.io.replies import Interrupted

ENOUGH = check_redis._RULES.split()


SPARED = "+info"
"""Without it, a worker does its work, but does not warn about the eviction policy."""


def name_of(rule: str) -> str:
    """Return what a denial holds that comes from the lack of this rule: the command, or the key without its session."""
    if rule.startswith("+"):
        return rule[1:].partition("|")[0].upper()
    return rule.rpartition("}")[2].strip("*")


@pytest.fixture
async def guest_url(redis_url: str, redis_client: Redis) -> AsyncIterator[str]:
    """The test's server, as a user who may do nothing yet."""
    await redis_client.execute_command("ACL", "SETUSER", "guest", "reset", "on", ">pw")  # type: ignore[no-untyped-call]
    yield redis_url.replace("redis://", "redis://guest:pw@")
    await redis_client.acl_deluser("guest")


async def allow(client: Redis, *rules: str) -> None:
    """Give these rules to the guest."""
    await client.execute_command("ACL", "SETUSER", "guest", *rules)  # type: ignore[no-untyped-call]


async def test_the_rules_that_the_doctor_names_are_enough(guest_url: str, redis_client: Redis, redis_url: str) -> None:
    """All is allowed, and afterwards Redis holds what it held before."""
    await allow(redis_client, *ENOUGH)
    for key in ("decalage:{workers}:bell:0", "decalage:{workers}:stats"):
        await redis_client.xadd(key, {"event": "x"}, id="5-0")
    await redis_client.set("decalage:{workers}:shards", 16)
    before = {key: await redis_client.dump(key) for key in await redis_client.keys("*")}
    async with connect(guest_url) as guest:
        assert await denials(guest) == []
    assert {key: await redis_client.dump(key) for key in await redis_client.keys("*")} == before


DENIED = [
    (["-xadd"], {"XADD on decalage:{workers}:bell:0", "XADD on decalage:{workers}:stats"}),
    (["-evalsha"], {"EVALSHA on decalage:{workers}:live"}),
    (["-script|load"], {"SCRIPT"}),
    (["-script"], {"SCRIPT"}),
    (["-expire", "-ttl"], {"EXPIRE on", "TTL on"}),
    (["-scan"], {"SCAN"}),
    (["-zremrangebyscore"], {"ZREMRANGEBYSCORE on decalage:{workers}:sessions:0"}),
    (["-hset"], {"HSET on decalage:{workers}:heard", "HSET on decalage:{workers}:live"}),
    (["-get"], {"GET on decalage:{workers}:shards"}),
    (["-@stream"], {"XADD on", "XREAD on", "XRANGE on", "XREVRANGE on decalage:{workers}:configure"}),
    (["resetkeys", "~decalage:{doctor-*"], {"GET on decalage:{workers}:shards", "ZADD on", "HGETALL on"}),
    (["resetkeys", "~decalage:{workers}:*"], {"EXISTS on", "HMGET on", "TTL on"}),
    (["resetkeys", "%R~decalage:*"], {"XADD on", "HSET on", "SET on decalage:{workers}:shards"}),
]


@pytest.mark.parametrize(("rules", "named"), DENIED, ids=lambda value: " ".join(sorted(value)))
async def test_every_denial_is_named(guest_url: str, redis_client: Redis, rules: list[str], named: set[str]) -> None:
    """Commands, key patterns, read-only users: one look finds all of it."""
    await allow(redis_client, *ENOUGH, *rules)
    async with connect(guest_url) as guest:
        found = await denials(guest)
    for name in named:
        assert any(what.startswith(name) for what in found), (name, found)


@pytest.mark.parametrize("role", ROLES)
async def test_a_roles_rules_are_enough_and_each_is_needed(guest_url: str, redis_client: Redis, role: str) -> None:
    """Law: with one key or command of them less, something is denied, and the command or the key is named."""
    rules = check_redis._RULES_OF[role].split()
    for left_out in [None, *(rule for rule in rules if rule != SPARED)]:
        await allow(redis_client, "reset", "on", ">pw", *(rule for rule in rules if rule != left_out))
        async with connect(guest_url) as guest:
            found = await denials(guest, role)
        assert bool(found) == (left_out is not None), (left_out, found)
        if left_out is not None:
            assert any(name_of(left_out) in what for what in found), (left_out, found)
    for key in await redis_client.keys("decalage:{doctor-*"):  # of a worker that may neither delete nor expire
        await redis_client.delete(key)


async def test_a_denied_look_at_the_shards_leaves_them_alone(guest_url: str, redis_client: Redis) -> None:
    """The deployment's number stays, whatever the rules."""
    await redis_client.set("decalage:{workers}:shards", 16)
    await allow(redis_client, *ENOUGH, "-get")
    async with connect(guest_url) as guest:
        await denials(guest)
    assert await redis_client.get("decalage:{workers}:shards") == b"16"


async def test_a_server_that_cannot_write_is_not_called_fit(redis_url: str, redis_client: Redis) -> None:
    """A replica answers, and cannot do the work."""
    await redis_client.replicaof("127.0.0.1", "1")
    try:
        async with connect(redis_url) as client:
            with pytest.raises(Interrupted, match=r"EXPIRE on .*: READONLY"):
                await denials(client)
    finally:
        await redis_client.replicaof("NO", "ONE")

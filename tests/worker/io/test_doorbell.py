"""Who has rung, heard once it is acknowledged; and the walk over the keyspace, on real servers."""

import pytest

from protocol import bell_key, source_key
from protocol.keys import BELL_FIELD, CONFIGURE_KEY, EVENT_FIELD, FREED_KEY, HEARD_KEY
from worker.io import doorbell as module
from worker.io.client import Client
from worker.io.doorbell import Doorbell, Sweep


async def ring(client: Client, shard: int, *names: str) -> None:
    """These sessions have news."""
    await client.call([("XADD", bell_key(shard), "*", BELL_FIELD, name) for name in names])


@pytest.fixture(autouse=True)
def _save_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAVE_S", 0.0)


async def heard(client: Client) -> dict[bytes, bytes]:
    """How far each shard's bell has been heard."""
    flat = await client.ask("HGETALL", HEARD_KEY)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_what_is_not_acknowledged_is_heard_again(any_client: Client) -> None:
    """Law: who is interrupted while the sessions are fetched hears them all again, with what came meanwhile."""
    bell = Doorbell(any_client)
    await bell.listen([0, 1])
    await ring(any_client, 0, "a", "b", "a")
    await any_client.ask("XADD", CONFIGURE_KEY, "*", EVENT_FIELD, "{}")
    await any_client.ask("XADD", FREED_KEY, "*", "worker", "w")
    first = await bell.wait()
    assert (sorted(first.sessions), first.settings, first.is_freed) == (["a", "b"], [b"{}"], True)
    await ring(any_client, 1, "c", "no session")
    again = await bell.wait()
    assert sorted(again.sessions) == ["a", "b", "c"]
    bell.acknowledge(first, [0, 1])
    assert (await bell.wait()).sessions == ["c"]
    bell.acknowledge(again, [0, 1])
    assert await bell.wait() == ([], [], False, {})


async def test_the_next_listener_hears_what_the_last_one_has_not_dealt_with(any_client: Client) -> None:
    """From the first ring on where nobody has listened before; settings and freed shards only from now on."""
    await any_client.ask("XADD", CONFIGURE_KEY, "*", EVENT_FIELD, "{}")
    await ring(any_client, 0, "early")
    first, second = Doorbell(any_client), Doorbell(any_client)
    await first.listen([0])
    rung = await first.wait()
    assert (rung.sessions, rung.settings) == (["early"], [])
    first.acknowledge(rung, [0])
    await ring(any_client, 0, "dealt with")
    first.acknowledge(await first.wait(), [0])
    await ring(any_client, 0, "left")
    await first.wait()  # and dies, but has told how far it got
    await second.listen([0])
    assert (await second.wait()).sessions == ["left"]


async def test_rings_that_were_not_ours_are_left_to_the_next(any_client: Client) -> None:
    """A shard that leaves, or may have gone: its sessions were not fetched, so its cursor stays where it was."""
    leaving, coming = Doorbell(any_client), Doorbell(any_client)
    await leaving.listen([0])
    await ring(any_client, 0, "ours")
    leaving.acknowledge(await leaving.wait(), [0])
    await ring(any_client, 0, "theirs")
    leaving.acknowledge(await leaving.wait(), [])
    before = await heard(any_client)
    await ring(any_client, 0, "later")
    leaving.acknowledge(await leaving.wait(), [0])
    await leaving.wait()
    assert await heard(any_client) == before
    await coming.listen([0])
    assert (await coming.wait()).sessions == ["theirs", "later"]
    await leaving.listen([])
    await leaving.listen([0])
    assert (await leaving.wait()).sessions == ["theirs", "later"]


async def test_a_walk_meets_every_session_once(any_client: Client) -> None:
    """Of any number, a step at a time; other keys are passed over."""
    names = {f"s{i}" for i in range(2_500)}
    await any_client.call([("SET", source_key(name), "", "EX", 60) for name in names])
    await any_client.call([("SET", f"decalage:{{{name}!}}:source", "", "EX", 60) for name in names])
    sweep = Sweep(any_client)
    for _ in range(2):
        met, whole = await sweep.step()
        seen = set(met)
        while whole is None:
            met, whole = await sweep.step()
            seen |= met
        assert seen == whole == names

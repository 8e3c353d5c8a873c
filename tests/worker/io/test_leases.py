"""Leases and life signs on real servers."""

import pytest

from worker.core.leases import Lease, Peer
from worker.io.client import Client
from worker.io.leases import Leases

HOUR_MS = 3_600_000
PEER = Peer(weight=5, sessions=2)


def leases(client: Client, worker: str, term_ms: int = HOUR_MS) -> Leases:
    """A worker's view of three shards."""
    return Leases(client, worker, 3, term_ms)


def owners(found: tuple[Lease, ...]) -> list[str]:
    """Who has them."""
    return [lease.owner for lease in found]


async def test_a_lease_has_one_owner_and_each_new_one_a_later_epoch(any_client: Client) -> None:
    """What one holds the other does not get; what was given back has a later epoch under whoever takes it."""
    a, b = leases(any_client, "a"), leases(any_client, "b")
    first = await a.exchange(PEER, hold=[0, 1])
    assert owners(first.leases) == ["a", "a", ""]
    assert owners((await b.exchange(PEER, hold=[0, 1, 2])).leases) == ["a", "a", "b"]
    assert (await a.exchange(PEER, hold=[0, 1])).leases[0].epoch == first.leases[0].epoch
    assert owners((await a.exchange(PEER, give=[0])).leases) == ["", "a", "b"]
    again = await b.exchange(PEER, hold=[0])
    assert owners(again.leases) == ["b", "a", "b"]
    assert again.leases[0].epoch > first.leases[0].epoch


async def test_a_lease_that_has_run_out_is_free(any_client: Client) -> None:
    """Its time is Redis's; until another takes it, its owner may prolong it under the same epoch."""
    a, b = leases(any_client, "a", 1), leases(any_client, "b")
    epoch = (await a.exchange(PEER, hold=[0, 1])).leases[0].epoch
    while (seen := await b.exchange(PEER)).leases[0].left_ms:
        pass
    assert "a" not in seen.peers
    assert (await leases(any_client, "a").exchange(PEER, hold=[0])).leases[0].epoch == epoch
    assert owners((await b.exchange(PEER, hold=[0, 1])).leases) == ["a", "b", ""]


async def test_life_signs_are_told(any_client: Client) -> None:
    """Who lives is seen with what it said; who leaves is not, and its bell rings when it gave something back."""
    a, b = leases(any_client, "a"), leases(any_client, "b")
    await a.exchange(PEER, hold=[0])
    assert (await b.exchange(Peer(7))).peers == {"a": PEER, "b": Peer(7)}
    assert not await any_client.ask("EXISTS", "decalage:{workers}:freed")
    assert (await a.exchange(None, give=[0])).peers == {"b": Peer(7)}
    assert await any_client.ask("XLEN", "decalage:{workers}:freed") == 1


async def test_a_clock_that_goes_back_keeps_nobodys_lease(any_client: Client) -> None:
    """An end that lies further ahead than the lease's own term is one from before the clock was set."""
    a = leases(any_client, "a")
    await a.exchange(PEER, hold=[0])
    await any_client.ask("HINCRBY", "decalage:{workers}:lease:0", "until", 10 * HOUR_MS)
    assert (await leases(any_client, "b").exchange(PEER)).leases[0].left_ms <= HOUR_MS


@pytest.mark.parametrize("lost", [True, False])
async def test_an_epoch_never_falls(any_client: Client, lost: bool) -> None:
    """Not even where Redis has forgotten the lease."""
    a, b = leases(any_client, "a"), leases(any_client, "b")
    epoch = (await a.exchange(PEER, hold=[0])).leases[0].epoch
    if lost:
        await any_client.ask("DEL", "decalage:{workers}:lease:0")
        while int((await any_client.ask("TIME"))[0]) * 1000 <= epoch:
            pass
    else:
        await a.exchange(PEER, give=[0])
    assert (await b.exchange(PEER, hold=[0])).leases[0].epoch > epoch

"""What one worker decides about leases; how many together fare is in `test_lease_model`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import leases as rules
from worker.core.leases import Decision, Lease, Peer, Tenure

FREE, LATE = Lease(), Lease("gone", 5, 0)


def lease(owner: str) -> Lease:
    """A lease in force."""
    return Lease(owner, 7, 900)


@given(
    weights=st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 2**40), min_size=1), num=st.integers(1, 64)
)
def test_shares_add_up_to_all_shards(weights: dict[str, int], num: int) -> None:
    """Law: as long as a shard is free, somebody is below his share, and takes it."""
    peers = {name: Peer(weight) for name, weight in weights.items()}
    assert sum(rules.share(name, peers, num) for name in peers) == num


def test_the_first_worker_takes_everything_and_the_second_gets_half_in_steps() -> None:
    """What is free is taken at once; what is held goes by halves of the surplus, when the last move has settled."""
    alone, both = {"a": Peer(1)}, {"a": Peer(1), "b": Peer(1)}
    assert sorted(rules.decide("a", alone, [FREE] * 8, (), is_settled=True).take) == list(range(8))
    mine = [lease("a")] * 8
    assert rules.decide("a", both, mine, range(8), is_settled=True) == Decision(give=(6, 7))
    assert rules.decide("a", both, mine, range(8), is_settled=False) == Decision()
    six = [lease("a")] * 6 + [FREE] * 2
    assert sorted(rules.decide("b", both, six, (), is_settled=False).take) == [6, 7]


def test_weights_decide() -> None:
    """A worker with twice the room gets twice the shards."""
    peers = {"a": Peer(100), "b": Peer(200)}
    assert rules.decide("a", peers, [lease("a")] * 2 + [lease("b")] * 4, (0, 1), is_settled=True) == Decision()
    assert rules.decide("b", peers, [lease("a")] * 2 + [FREE] * 4, (), is_settled=True).take == (4, 5, 2, 3)


def test_less_than_a_whole_shard_moves_nothing() -> None:
    """Hysteresis: a weight that trembles causes no hand-over."""
    mine = [lease("a")] * 8 + [lease("b")] * 8
    peers = {"a": Peer(100), "b": Peer(110)}
    assert rules.decide("a", peers, mine, range(8), is_settled=True) == Decision()


def test_a_worker_that_leaves_gives_all_and_takes_none() -> None:
    """Whether it says so, or is not among the living."""
    for peers in ({"a": Peer(1, is_leaving=True), "b": Peer(1)}, {"b": Peer(1)}):
        assert rules.decide("a", peers, [lease("a"), FREE], (0,), is_settled=False) == Decision(give=(0,))


def test_a_late_worker_is_not_waited_for() -> None:
    """Its leases have run out: they are shared out, though its sign of life still stands."""
    peers = {"a": Peer(1), "gone": Peer(1)}
    assert sorted(rules.decide("a", peers, [LATE, lease("a")], (1,), is_settled=True).take) == [0]


def test_a_lease_lasts_shorter_for_its_holder_than_for_redis() -> None:
    """Counted from the moment of asking, with an eighth to spare; a lease that is another's now is gone."""
    answers = {0: lease("a"), 1: lease("b"), 2: lease("a")}
    before = {0: Tenure(7, 1), 1: Tenure(6, 1), 2: Tenure(6, 1), 3: Tenure(6, 1)}
    after = rules.learn(before, "a", answers, asked_ms=10_000, ttl_ms=800)
    assert after == {0: Tenure(7, 10_700), 2: Tenure(7, 10_700), 3: Tenure(6, 1)}
    assert rules.lost(before, after) == {1, 2}


@pytest.mark.parametrize(
    ("leases", "held", "wait_ms"),
    [([lease("a")], (0,), 200), ([Lease("b", 1, 120)], (), 121), ([LATE], (), 200), ([], (), 200)],
)
def test_when_to_look_again(leases: list[Lease], held: tuple[int, ...], wait_ms: int) -> None:
    """A quarter of a lease later, or when another's lease runs out."""
    assert rules.wait_ms(leases, held, 800) == wait_ms


def test_a_full_worker_keeps_some_weight() -> None:
    """So that its sessions are not all thrown at the others; and memory or sessions count, whichever is shorter."""
    assert rules.weight(free_kv_bytes=-5, max_kv_bytes=1_600, sessions=9, max_sessions=9) == 100
    assert rules.weight(free_kv_bytes=300, max_kv_bytes=1_600, sessions=0, max_sessions=9) == 300

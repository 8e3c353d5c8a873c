"""Whose log is read next: everybody gets a turn, and what was interrupted is read again."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Disconnected

from protocol import InputTextAppend, Session, SessionCreate, encode, shard_of
from tests.worker.app.conftest import until
from tests.worker.fakes import FakeVocabulary
from worker.app.config import Settings
from worker.app.quarantine import Quarantine
from worker.app.reader import Reader
from worker.app.reports import Reports
from worker.app.table import Table
from worker.core import quarantine
from worker.core.quarantine import QUARANTINE_OWNERS, Record, Suspects
from worker.io.metrics import Metrics
from worker.io.replies import Entry
from worker.io.store import PAGE_ENTRIES, Checkpoint, Claim, Suspect, Taken

NUM_SHARDS = 16
CREATE = encode(SessionCreate(session=Session()))
WORD = encode(InputTextAppend(text="word"))


class FakeStore:
    """Logs in memory; `fails` are calls that are interrupted, by name and how often."""

    def __init__(self, **logs: int) -> None:
        self.lengths = logs  # entries of each
        self.owners: dict[str, int] = {}  # failed ones
        self.fails: dict[str, int] = {}
        self.claims: list[Claim] = []
        self.reads: list[list[str]] = []

    def _may_fail(self, call: str) -> None:
        if self.fails.get(call, 0):
            self.fails[call] -= 1
            raise Disconnected("gone")

    async def open(self, claims: Sequence[Claim]) -> list[Taken | Exception]:
        """Every session is as new, or as often failed as `owners` says."""
        await asyncio.sleep(0)
        self.claims += claims
        self._may_fail("open")
        return [
            Suspect("failed")
            if self.owners.get(claim.session_id, 0) >= QUARANTINE_OWNERS and not claim.is_alone
            else Taken(1, Checkpoint(), Record(self.owners.get(claim.session_id, 0)))
            for claim in claims
        ]

    async def read(self, cursors: Mapping[str, str]) -> dict[str, list[Entry]]:
        """The next page of each."""
        await asyncio.sleep(0)
        self._may_fail("read")
        if cursors:
            self.reads.append(list(cursors))
        return {name: self._page(name, int(cursor.partition("-")[0])) for name, cursor in cursors.items()}

    def _page(self, name: str, last: int) -> list[Entry]:
        numbers = range(last + 1, min(last + PAGE_ENTRIES, self.lengths.get(name, 0)) + 1)
        return [(f"{i}-0", {b"event": CREATE if i == 1 else WORD}) for i in numbers]


class FakeOwnership:
    """Shards that are all this worker's, but for those that have `moved`."""

    def __init__(self) -> None:
        self.moved: set[int] = set()

    def epoch_of(self, name: str) -> int | None:
        """The lease."""
        return None if self.shard_of(name) in self.moved else 1

    def dead_before(self, _: str) -> str:
        """Nobody died."""
        return ""

    def shard_of(self, name: str) -> int:
        """Of the protocol."""
        return shard_of(name, NUM_SHARDS)


class World:
    """A reader on a fake store."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        fake: Any = store
        ownership: Any = FakeOwnership()
        self.looks = 0
        reports = Reports("w", "fake", Metrics())
        self.quarantine = Quarantine(fake, reports, about={}, on_look=self._look)
        self.table = Table(NUM_SHARDS, self.quarantine)
        self.ownership = ownership
        self.reader = Reader(
            Settings(),
            fake,
            self.table,
            reports=reports,
            vocabulary=FakeVocabulary(),
            ownership=ownership,
            quarantine=self.quarantine,
        )

    def _look(self) -> None:
        self.looks += 1

    def num_read(self, name: str) -> int:
        """Entries of the session that have been applied."""
        live = self.table.get(name)
        return int(live.cursor.partition("-")[0]) if live else 0

    def has_read(self, name: str) -> Callable[[], bool]:
        """Whether all of its log has been applied."""
        return lambda: self.num_read(name) == self.store.lengths[name]


async def test_who_floods_its_stream_keeps_nobody_from_being_read() -> None:
    """News of another session is taken between two pages of one that has no end."""
    world = World(FakeStore(flood=1_000_000, other=2))
    flooding = asyncio.create_task(world.reader.read(["flood"]))
    rest = asyncio.create_task(read_rest(world))
    await until(lambda: world.num_read("flood") > 0)
    assert await asyncio.wait_for(world.reader.read(["other"]), 10)
    assert world.num_read("other") == 2
    assert world.num_read("flood") <= 8 * PAGE_ENTRIES
    rest.cancel()
    await flooding


async def read_rest(world: World) -> None:
    """Reads on for ever, whatever is interrupted."""
    while True:
        try:
            await world.reader.read_rest()
        except Disconnected:
            continue


async def test_each_round_reads_a_page_of_every_session_that_has_more() -> None:
    """Two long logs advance side by side."""
    world = World(FakeStore(a=3 * PAGE_ENTRIES, b=2 * PAGE_ENTRIES, c=1))
    await world.reader.read(["a", "b", "c"])
    rest = asyncio.create_task(read_rest(world))
    await until(world.has_read("a"))
    await until(world.has_read("b"))
    rest.cancel()
    assert world.store.reads[:3] == [["a", "b", "c"], ["a", "b"], ["a", "b"]]


@pytest.mark.parametrize("call", ["open", "read"])
async def test_what_was_interrupted_is_read_without_another_bell(call: str) -> None:
    """A connection that is lost in the middle of a round loses none of its news."""
    world = World(FakeStore(a=2, b=2))
    world.store.fails[call] = 1
    with pytest.raises(Disconnected):
        await world.reader.read(["a", "b"])
    await asyncio.wait_for(world.reader.read_rest(), 10)
    assert (world.num_read("a"), world.num_read("b")) == (2, 2)


async def test_a_lost_connection_forgets_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that tells of a failure is interrupted: the next one tells of it again, and of the same one."""
    monkeypatch.setattr(quarantine, "RETRY_MS", 0)
    world = World(FakeStore(a=2))
    await world.reader.read(["a"])
    world.reader.lose("a", ValueError("it broke"))
    world.store.fails["open"] = 1
    with pytest.raises(Disconnected):
        await world.reader.read(["a"])
    await world.reader.read(["a"])
    assert [claim.failure for claim in world.store.claims] == [0, 1, 1]
    assert world.num_read("a") == 2


async def test_a_session_that_failed_rests_and_keeps_nobody_else() -> None:
    """Until its time has come it is not claimed; others are."""
    world = World(FakeStore(a=2, b=2))
    await world.reader.read(["a"])
    world.reader.lose("a", ValueError("it broke"))
    await world.reader.read(["a", "b"])
    assert (world.num_read("a"), world.num_read("b")) == (0, 2)
    assert len(world.store.claims) == 2


async def test_others_wait_while_a_session_is_exclusive_and_lose_nothing() -> None:
    """News that comes meanwhile is read once the session in quarantine is through, without another bell."""
    world = World(FakeStore(a=2, b=2, c=2))
    world.store.owners["a"] = QUARANTINE_OWNERS
    await world.reader.read(["c"])
    world.store.lengths["c"] = 3
    await world.reader.read(["a"])
    assert world.quarantine.exclusive == "a"
    await world.reader.read(["b", "c"])
    assert [world.num_read(name) for name in "abc"] == [1, 0, 2]
    world.table.forget("a")
    assert world.looks
    await world.reader.read([])
    await asyncio.wait_for(world.reader.read_rest(), 10)
    assert [world.num_read(name) for name in "abc"] == [0, 2, 3]


NAMES = [f"s{i}" for i in range(64)]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=64),
    st.permutations(range(NUM_SHARDS)),
)
def test_shards_that_move_away_leave_nothing_behind(failures: list[tuple[str, bool]], order: Sequence[int]) -> None:
    """Law: whatever sessions failed, held or not, once all shards have moved, nothing is known of any of them."""
    world = World(FakeStore(**dict.fromkeys(NAMES, 2)))
    for name, is_poison in failures:
        live = world.table.add(name, Taken(1, Checkpoint(), Record(QUARANTINE_OWNERS if is_poison else 1)))
        world.reader.lose(live.session_id, ValueError("it broke"))
        if is_poison:
            world.table.add(name, Taken(1, Checkpoint(), Record()))
    for shard in order:
        world.table.forget_shards({shard})
        gone = {name for name in world.quarantine._suspects.failures if world.ownership.shard_of(name) == shard}
        assert not gone
    assert world.quarantine._suspects == Suspects(num_failures=len(failures))
    assert list(world.table) == []


async def test_a_session_whose_keys_are_gone_is_forgotten() -> None:
    """A walk over all keys that has not met it frees what was remembered of its failure."""
    world = World(FakeStore(a=2, b=2))
    for name in "ab":
        world.reader.lose(name, ValueError("it broke"))
    world.table.prune({"b"})
    assert set(world.quarantine._suspects.failures) == {"b"}

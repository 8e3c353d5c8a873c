"""Whose log is read next: everybody gets a turn, and what was interrupted is read again."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Disconnected

from protocol import InputTextAppend, Session, SessionCreate, encode, shard_of
from tests.worker.app.conftest import until
from tests.worker.fakes import FakeVocabulary
from worker.app.config import Settings
from worker.app.ingest import Ingest
from worker.app.quarantine import Quarantine
from worker.app.sessions import SessionTable
from worker.app.telemetry import Telemetry
from worker.core import entries, quarantine
from worker.core.quarantine import QUARANTINE_OWNERS, Record, Suspects
from worker.core.replay import Progress, Published
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions
from worker.core.state import State
from worker.io.checkpoint import Checkpoint
from worker.io.metrics import Metrics
from worker.io.replies import Denied, Entry
from worker.io.store import PAGE_ENTRIES, Claim, Suspect, Taken

NUM_SHARDS = 16
CREATE = encode(SessionCreate(session=Session()))
WORD = encode(InputTextAppend(text="word"))
VOCABULARY = FakeVocabulary()


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

    async def published(self, wanted: Mapping[str, Progress]) -> dict[str, Published | Denied]:
        """No words."""
        return dict.fromkeys(wanted, ())

    def _page(self, name: str, last: int) -> list[Entry]:
        numbers = range(last + 1, min(last + PAGE_ENTRIES, self.lengths.get(name, 0)) + 1)
        return [(f"{i}-0", {b"event": CREATE if i == 1 else WORD}) for i in numbers]


class FakeShards:
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
    """An ingest on a fake store."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        fake: Any = store
        shards: Any = FakeShards()
        self.looks = 0
        telemetry = Telemetry("w", "fake", Metrics())
        self.quarantine = Quarantine(fake, telemetry, about={}, on_look=self._look)
        self.table = SessionTable(
            Sessions(VOCABULARY, "fake", Budget()),
            partial(entries.step, vocabulary=VOCABULARY, model="fake"),
            NUM_SHARDS,
            on_forget=self.quarantine.released,
            on_gone=self.quarantine.forget,
        )
        self.shards = shards
        self.ingest = Ingest(
            Settings(), fake, self.table, shards=shards, telemetry=telemetry, quarantine=self.quarantine
        )

    def _look(self) -> None:
        self.looks += 1

    def num_read(self, name: str) -> int:
        """Entries of the session that have been applied."""
        handle = self.table.get(name)
        return int(handle.cursor.partition("-")[0]) if handle else 0

    def has_read(self, name: str) -> Callable[[], bool]:
        """Whether all of its log has been applied."""
        return lambda: self.num_read(name) == self.store.lengths[name]


async def test_who_floods_its_stream_keeps_nobody_from_being_read() -> None:
    """News of another session is taken between two pages of one that has no end."""
    world = World(FakeStore(flood=1_000_000, other=2))
    flooding = asyncio.create_task(world.ingest.read(["flood"]))
    rest = asyncio.create_task(read_rest(world))
    await until(lambda: world.num_read("flood") > 0)
    assert await asyncio.wait_for(world.ingest.read(["other"]), 10)
    assert world.num_read("other") == 2
    assert world.num_read("flood") <= 8 * PAGE_ENTRIES
    rest.cancel()
    await flooding


async def read_rest(world: World) -> None:
    """Reads on for ever, whatever is interrupted."""
    while True:
        try:
            await world.ingest.read_rest()
        except Disconnected:
            continue


async def test_each_round_reads_a_page_of_every_session_that_has_more() -> None:
    """Two long logs advance side by side."""
    world = World(FakeStore(a=3 * PAGE_ENTRIES, b=2 * PAGE_ENTRIES, c=1))
    await world.ingest.read(["a", "b", "c"])
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
        await world.ingest.read(["a", "b"])
    await asyncio.wait_for(world.ingest.read_rest(), 10)
    assert (world.num_read("a"), world.num_read("b")) == (2, 2)


async def test_a_lost_connection_forgets_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that tells of a failure is interrupted: the next one tells of it again, and of the same one."""
    monkeypatch.setattr(quarantine, "RETRY_MS", 0)
    world = World(FakeStore(a=2))
    await world.ingest.read(["a"])
    world.ingest.lose("a", ValueError("it broke"))
    world.store.fails["open"] = 1
    with pytest.raises(Disconnected):
        await world.ingest.read(["a"])
    await world.ingest.read(["a"])
    assert [claim.failure for claim in world.store.claims] == [0, 1, 1]
    assert world.num_read("a") == 2


async def test_a_session_that_failed_rests_and_keeps_nobody_else() -> None:
    """Until its time has come it is not claimed; others are."""
    world = World(FakeStore(a=2, b=2))
    await world.ingest.read(["a"])
    world.ingest.lose("a", ValueError("it broke"))
    await world.ingest.read(["a", "b"])
    assert (world.num_read("a"), world.num_read("b")) == (0, 2)
    assert len(world.store.claims) == 2


async def test_others_wait_while_a_session_is_exclusive_and_lose_nothing() -> None:
    """News that comes meanwhile is read once the session in quarantine is through, without another bell."""
    world = World(FakeStore(a=2, b=2, c=2))
    world.store.owners["a"] = QUARANTINE_OWNERS
    await world.ingest.read(["c"])
    world.store.lengths["c"] = 3
    await world.ingest.read(["a"])
    assert world.quarantine.exclusive == "a"
    await world.ingest.read(["b", "c"])
    assert [world.num_read(name) for name in "abc"] == [1, 0, 2]
    world.table.forget("a")
    assert world.looks
    await world.ingest.read([])
    await asyncio.wait_for(world.ingest.read_rest(), 10)
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
        handle = world.table.add(name, Taken(1, Checkpoint(), Record(QUARANTINE_OWNERS if is_poison else 1)))
        world.ingest.lose(handle.session_id, ValueError("it broke"))
        if is_poison:
            world.table.add(name, Taken(1, Checkpoint(), Record()))
    for shard in order:
        world.table.forget_shards({shard})
        gone = {name for name in world.quarantine._suspects.failures if world.shards.shard_of(name) == shard}
        assert not gone
    assert world.quarantine._suspects == Suspects(num_failures=len(failures))
    assert list(world.table) == []


async def test_a_session_whose_keys_are_gone_is_forgotten() -> None:
    """A walk over all keys that has not met it frees what was remembered of its failure."""
    world = World(FakeStore(a=2, b=2))
    for name in "ab":
        world.ingest.lose(name, ValueError("it broke"))
    world.table.prune({"b"})
    assert set(world.quarantine._suspects.failures) == {"b"}


def test_accepted_words_never_fall() -> None:
    """Pictographs at a sentence's start count only until its first word; the counter of a metric cannot fall."""
    metrics = Metrics()
    telemetry = Telemetry("w", "fake", metrics)
    states = [State(number=0, source_words=num_words) for num_words in (0, 2, 1, 4)]
    for before, after in pairwise(states):
        telemetry.accepted(before, after)
    assert metrics.registry.get_sample_value("decalage_source_words_total") == 5

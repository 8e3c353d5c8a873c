"""The table of sessions looks only at those that have changed, and misses none by it."""

from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from protocol import (
    ClientEvent,
    Error,
    InputTextAppend,
    InputTextFinalize,
    Session,
    SessionClose,
    SessionCreate,
    SessionPhase,
    encode,
    shard_of,
)
from tests.worker.fakes import FakeModel, FakeRunner, FakeVocabulary
from worker.app.sessions import SessionTable
from worker.core import entries, scheduler
from worker.core.entries import as_before
from worker.core.quarantine import Record
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions
from worker.io.checkpoint import Checkpoint
from worker.io.store import Commit, Taken

NAMES = ("a", "b", "c", "d")
EVENTS = (InputTextAppend(text="one two"), InputTextAppend(text="three"), InputTextFinalize(), SessionClose())
MOVES = st.lists(
    st.one_of(st.just("tick"), st.just("forget"), st.tuples(st.sampled_from(NAMES), st.sampled_from(EVENTS)))
)
VOCABULARY = FakeVocabulary()


class World:
    """A table whose engine is a fake one."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.gone: list[Callable[[str], bool]] = []
        self.sessions = Sessions(VOCABULARY, "fake", Budget())
        self.table = SessionTable(
            self.sessions,
            partial(entries.step, vocabulary=VOCABULARY, model="fake"),
            16,
            on_forget=self.forgotten.append,
            on_gone=self.gone.append,
        )
        self._runner = FakeRunner(FakeModel())
        self._entries = 0
        for name in NAMES:
            self.table.add(name, Taken(1, Checkpoint(), Record()))
            self.say(name, SessionCreate(session=Session()))

    def say(self, name: str, event: InputTextAppend | InputTextFinalize | SessionClose | SessionCreate) -> None:
        """The session takes this event."""
        self._entries += 1
        if (handle := self.table.get(name)) is not None:
            entry = (f"{self._entries}-0", {b"event": encode(event)})
            handle.take(entry, self._entries, as_before(()))

    def tick(self, budget: Budget) -> scheduler.Plan:
        """A plan, run and applied."""
        self.sessions.budget = budget
        plan = self.sessions.plan()
        for name, row, sampled in zip(plan.sessions, plan.rows, self._runner.run(plan.rows, plan.dropped), strict=True):
            assert self.table.update(name, row, sampled, self._entries) is not None
        return plan

    def publish(self) -> list[Commit]:
        """What the table has to publish and save, which is then in Redis."""
        commits = self.table.commits(lambda name: True)
        for commit in commits:
            if (handle := self.table.get(commit.session_id)) is not None:
                handle.committed(commit)
        return commits


@given(MOVES, st.integers(1, 3))
def test_who_has_not_changed_has_nothing_to_say(moves: list[object], max_rows: int) -> None:
    """Law: at any moment, what all sessions would want is what the changed ones want, and what all have to publish is
    what the changed ones have to publish. What they only have to save waits for their pass, and for nothing else.
    """
    world, budget = World(), Budget(max_rows=max_rows)
    for move in [*moves, *["tick"] * 5]:
        match move:
            case "tick":
                wants = {handle.session_id: scheduler.wants(handle.state, budget) for handle in world.table}
                wanted = {name for name, row in wants.items() if row is not None}
                plan = world.tick(budget)
                assert {*plan.sessions, *plan.deferred} == wanted
                assert len(plan.sessions) == min(max_rows, len(wanted))
            case "forget":
                world.table.forget("a")
            case (str(name), event):
                world.say(name, event)  # type: ignore[arg-type]
        assert len({handle.state.number for handle in world.table}) == len(list(world.table))
        assert world.sessions.num_open == sum(handle.is_open for handle in world.table)
        expected = [commit for handle in world.table if (commit := handle.commit()) is not None]
        found = world.publish()
        assert all(commit in expected for commit in found)
        assert all(commit in found for commit in expected if commit.events)
    while world.tick(budget).rows:
        world.publish()
    world.publish()
    assert all(handle.commit() is None for handle in world.table)
    assert world.publish() == []


def test_lanes_of_ended_and_forgotten_sessions_are_told_once() -> None:
    """A lane is dropped when its segment is done or its session forgotten."""
    world = World()
    world.say("a", InputTextAppend(text="one two three four"))
    world.tick(Budget())
    handle = world.table.get("a")
    assert handle is not None
    lane = (handle.state.number, 0)
    world.table.forget("a")
    assert world.forgotten == ["a"]
    assert world.sessions.plan().dropped == (lane,)
    assert world.sessions.plan().dropped == ()


def test_a_session_that_was_forgotten_while_it_changed_stays_forgotten() -> None:
    """Entries that are still being applied to a lost session bring it back to nobody."""
    world = World()
    handle = world.table.get("b")
    assert handle is not None
    world.table.forget("b")
    handle.take(("99-0", {b"event": encode(SessionClose())}), 1, as_before(()))
    handle.catch_up()
    handle.check(10**12)
    assert all(commit.session_id != "b" for commit in world.table.commits(lambda name: True))
    assert "b" not in world.sessions.plan().deferred
    assert "b" not in world.sessions


def test_what_a_worker_may_not_take_any_more_is_told() -> None:
    """Sessions of shards that have gone, held or not; and those whose keys are gone and that are not held."""
    world = World()
    shards = {shard_of(name, 16) for name in "ab"}
    world.table.forget_shards(shards)
    names = [name for name in NAMES if shard_of(name, 16) not in shards]
    assert [handle.session_id for handle in world.table] == names
    [is_gone] = world.gone
    assert [is_gone(name) for name in ("a", "b", *names)] == [True, True, *[False] * len(names)]
    world.table.prune({"e"})
    assert [world.gone[-1](name) for name in ("a", "e", *names)] == [True, False, *[False] * len(names)]


def test_what_comes_while_a_session_closes_for_idleness_ends_no_takeover() -> None:
    """Words that are refused then, because the session is closing, are refused by the replay too."""
    log: list[ClientEvent] = [SessionCreate(session=Session(), seq=1), InputTextAppend(text="one two three", seq=2)]
    entries_ = [(f"{i}-0", {b"event": encode(event)}) for i, event in enumerate(log, 1)]
    late = ("900000-0", {b"event": encode(InputTextAppend(text="too late", seq=3))})
    before, after = World(), World()
    handle = before.table.add("talk", Taken(1, Checkpoint(), Record()))
    for entry in entries_:
        handle.take(entry, 5, as_before(()))
    handle.check(800_000)
    handle.take(late, 900_001, as_before(()))
    commit = handle.commit()
    assert commit is not None
    assert [event.code for event in commit.events if isinstance(event, Error)] == ["session_closed"]
    resumed = after.table.add("talk", Taken(2, commit.checkpoint, Record()))
    resumed.replay([*entries_, late])
    resumed.resume(900_002)
    assert resumed.pending == []
    assert (resumed.state.phase, resumed.state.source_words) == (SessionPhase.CLOSING, 3)
    [segment] = resumed.state.segments
    assert segment.source.ended
    assert resumed.state.source_seq == handle.state.source_seq == 3

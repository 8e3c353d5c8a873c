"""The table of sessions looks only at those that have changed, and misses none by it."""

from hypothesis import given
from hypothesis import strategies as st

from protocol import InputTextAppend, InputTextFinalize, Session, SessionClose, SessionCreate, encode
from tests.worker.fakes import FakeModel, FakeRunner, FakeVocabulary
from worker.app.table import Table
from worker.core import scheduler
from worker.core.scheduler import Budget
from worker.io.store import Checkpoint, Commit

NAMES = ("a", "b", "c", "d")
EVENTS = (InputTextAppend(text="one two"), InputTextAppend(text="three"), InputTextFinalize(), SessionClose())
MOVES = st.lists(
    st.one_of(st.just("tick"), st.just("forget"), st.tuples(st.sampled_from(NAMES), st.sampled_from(EVENTS)))
)
VOCABULARY = FakeVocabulary()


class World:
    """A table whose engine is a fake one."""

    def __init__(self) -> None:
        self.table = Table(16)
        self._runner = FakeRunner(FakeModel())
        self._entries = 0
        for name in NAMES:
            self.table.add(name, 1, Checkpoint())
            self.say(name, SessionCreate(session=Session()))

    def say(self, name: str, event: InputTextAppend | InputTextFinalize | SessionClose | SessionCreate) -> None:
        """The session takes this event."""
        self._entries += 1
        if (live := self.table.get(name)) is not None:
            entry = (f"{self._entries}-0", {b"event": encode(event)})
            live.take(entry, self._entries, VOCABULARY, "fake", admit=lambda: None)

    def tick(self, budget: Budget) -> scheduler.Plan:
        """A plan, run and settled."""
        plan = self.table.plan(budget)
        for name, row, sampled in zip(plan.sessions, plan.rows, self._runner.run(plan.rows, plan.dropped), strict=True):
            live = self.table.get(name)
            assert live is not None
            live.update(row, sampled, self._entries, VOCABULARY)
        return plan

    def publish(self) -> list[Commit]:
        """What the table has to publish and save, which is then in Redis."""
        commits = self.table.commits(lambda name: True)
        for commit in commits:
            if (live := self.table.get(commit.session_id)) is not None:
                live.committed(commit)
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
                wanted = {live.session_id for live in world.table if scheduler.wants(live.state, budget) is not None}
                plan = world.tick(budget)
                assert {*plan.sessions, *plan.deferred} == wanted
                assert len(plan.sessions) == min(max_rows, len(wanted))
            case "forget":
                world.table.forget("a")
            case (str(name), event):
                world.say(name, event)  # type: ignore[arg-type]
        assert world.table.num_open == sum(live.is_open for live in world.table)
        expected = [commit for live in world.table if (commit := live.commit()) is not None]
        found = world.publish()
        assert all(commit in expected for commit in found)
        assert all(commit in found for commit in expected if commit.events)
    while world.tick(budget).rows:
        world.publish()
    world.publish()
    assert all(live.commit() is None for live in world.table)
    assert world.publish() == []


def test_lanes_of_ended_and_forgotten_sessions_are_told_once() -> None:
    """A lane is dropped when its segment is done or its session forgotten."""
    world = World()
    world.say("a", InputTextAppend(text="one two three four"))
    world.tick(Budget())
    live = world.table.get("a")
    assert live is not None
    lane = (live.state.number, 0)
    world.table.forget("a")
    assert world.table.plan(Budget()).dropped == (lane,)
    assert world.table.plan(Budget()).dropped == ()


def test_a_session_that_was_forgotten_while_it_changed_stays_forgotten() -> None:
    """Entries that are still being applied to a lost session bring it back to nobody."""
    world = World()
    live = world.table.get("b")
    assert live is not None
    world.table.forget("b")
    live.take(("99-0", {b"event": encode(SessionClose())}), 1, VOCABULARY, "fake", admit=lambda: None)
    assert all(commit.session_id != "b" for commit in world.table.commits(lambda name: True))
    assert "b" not in world.table.plan(Budget()).deferred

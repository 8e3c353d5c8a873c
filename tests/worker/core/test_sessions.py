"""The sessions of one engine: whoever wants a pass is planned, and every lane is freed once."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import (
    Error,
    InputTextAppend,
    InputTextFinalize,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
    SessionPhase,
)
from tests.worker.core.conftest import POLICIES
from tests.worker.fakes import LATIN, FakeModel, FakeRunner, FakeVocabulary
from worker.core import session
from worker.core.rows import Deferred, Evicted, Failed, Lane, Output, Row
from worker.core.scheduler import Budget, wants
from worker.core.sessions import Sessions, run, run_pass
from worker.core.state import State, lane_of

BUDGET = Budget(min_source_tokens=1, max_rows=2)
CREATE = SessionCreate(session=Session())
TROUBLES: tuple[Output, ...] = (Deferred(), Evicted("gone"), Failed("bad"))
NAMES = st.sampled_from(["a", "b", "c", "d"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), NAMES, POLICIES),
        st.tuples(st.just("say"), NAMES, st.sampled_from(["the", "cat sat", "on x"])),
        st.tuples(st.sampled_from(["end", "close", "forget", "fail"]), NAMES, st.none()),
        st.tuples(st.just("pass"), st.none(), st.sampled_from([None, "a", "b"])),
        st.tuples(st.just("trouble"), st.none(), st.integers(0, 5)),
    ),
    max_size=40,
)


class Troubled(FakeRunner):
    """A runner that does not compute some of the rows of its next pass."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__(model)
        self.freed: list[Lane] = []
        self.outputs: list[Output | None] = []

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        """Free, fail, evict and defer as told, and compute the rest."""
        gone = tuple(dropped)
        self.freed += gone
        troubles, self.outputs = self.outputs + [None] * len(rows), []
        super().run((), gone)
        return tuple(self._one(row, trouble) for row, trouble in zip(rows, troubles, strict=False))

    def _one(self, row: Row, trouble: Output | None) -> Output:
        if isinstance(trouble, Failed | Evicted):
            self.lanes.pop(row.lane, None)
        return super().run([row])[0] if trouble is None else trouble


@given(actions=ACTIONS, seed=st.integers(0, 100))
def test_nobody_is_forgotten_and_no_lane_is_left(actions: list[tuple[str, str, object]], seed: int) -> None:
    """Law: between passes, all that want one may be planned, though only what has changed is looked at; the lanes that
    the engine holds are those in use and those that the next plan frees; and each that was freed was freed once.
    """
    runner, sessions = Troubled(FakeModel(seed, tokens=LATIN)), Sessions(FakeVocabulary(), "fake", BUDGET)
    for kind, name, value in actions:
        match kind, value:
            case "create", policy:
                sessions.add(name)
                sessions.step(name, SessionCreate(session=Session(policy=policy)), now_ms=0)  # type: ignore[arg-type]
            case "say", str() if name in sessions:
                sessions.step(name, InputTextAppend(text=value), now_ms=0)
            case "end", _ if name in sessions:
                sessions.step(name, InputTextFinalize(), now_ms=0)
            case "close", _ if name in sessions:
                sessions.step(name, SessionClose(), now_ms=0)
            case "fail", _ if name in sessions:
                sessions.apply(name, partial(session.fail, message="enough"))
            case "forget", _:
                sessions.forget(name)
            case "trouble", int():
                runner.outputs = [None] * (value // 3) + [TROUBLES[value % 3]]
            case "pass", only:
                wanting = {name for name in sessions if wants(_state(sessions, name), BUDGET)}
                plan = sessions.plan(only)  # type: ignore[arg-type]
                planned = {*plan.sessions, *plan.deferred}
                assert planned == (wanting if only is None else wanting & {only})
                outputs = runner.run(plan.rows, plan.dropped)
                sessions.update(plan, outputs, now_ms=0)
        in_use = {lane for name in sessions if (lane := lane_of(_state(sessions, name))) is not None}
        assert sessions.num_open == len([name for name in sessions if _is_open(_state(sessions, name))])
        assert not in_use & set(runner.freed)
    sessions.forget_all()
    run_pass(sessions, runner, lambda: 0)
    assert not runner.lanes
    assert len(runner.freed) == len(set(runner.freed))
    assert run_pass(sessions, runner, lambda: 0) is None


def _state(sessions: Sessions, name: str) -> State:
    state = sessions.get(name)
    assert state is not None
    return state


def _is_open(state: State) -> bool:
    return state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)


def test_an_update_tells_what_a_pass_has_changed() -> None:
    """The state before and after, the events, and the row's segment, though it has finished and left its session."""
    sessions = Sessions(FakeVocabulary(), "fake", BUDGET)
    sessions.add("s")
    events = [event for said in (CREATE, InputTextAppend(text="the cat"), SessionClose())
              for event in sessions.step("s", said, now_ms=0)]  # fmt: skip
    updates = list(run(sessions, FakeRunner(FakeModel(tokens=LATIN)), count(5).__next__))
    events += [event for update in updates for event in update.events]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], SessionClosed)
    last = updates[-1].segment
    assert last is not None
    assert last.is_finished
    assert not updates[-1].after.segments
    assert [update.before for update in updates[1:]] == [update.after for update in updates[:-1]]
    first = updates[0].before.segments.first
    assert first is not None
    assert first.source.words == ("the", "cat")


def test_a_session_that_fails_tells_so() -> None:
    """Its error is published, its segment is gone; the other one goes on."""
    sessions = Sessions(FakeVocabulary(), "fake", BUDGET)
    for name in "ab":
        sessions.add(name)
        sessions.step(name, CREATE, now_ms=0)
        sessions.step(name, InputTextAppend(text="the cat sat. x"), now_ms=0)
    updates = run_pass(sessions, FakeRunner(FakeModel(tokens=LATIN), faulty=[(0, 0)]), lambda: 0)
    assert updates is not None
    bad, good = updates
    assert (bad.name, bad.segment) == ("a", None)
    assert isinstance(bad.events[0], Error)
    assert good.segment is not None
    assert sessions.num_open == 1


def test_what_may_be_saved() -> None:
    """A session that has changed stands in `changed` until its owner takes it from there, also one that has failed."""
    sessions = Sessions(FakeVocabulary(), "fake", BUDGET)
    for name in "ab":
        sessions.add(name)
    sessions.changed.clear()
    sessions.step("b", CREATE, now_ms=0)
    assert sessions.changed == {"b"}
    sessions.forget("b")
    assert sessions.changed == set()
    assert "b" not in sessions
    assert sessions.get("b") is None


def test_the_number_names_the_lanes() -> None:
    """Sessions on one engine never share a lane: numbers are given out once, and a state keeps its own."""
    numbers = count(7)
    one, other = (Sessions(FakeVocabulary(), "fake", BUDGET, numbers=numbers) for _ in range(2))
    assert (one.add("s").number, other.add("s").number, one.add("s").number) == (7, 8, 9)
    one.step("s", CREATE, now_ms=0)
    one.step("s", InputTextAppend(text="x"), now_ms=0)
    kept = _state(one, "s")
    assert other.add("t", kept) is kept


def test_outputs_are_those_of_the_plan() -> None:
    """One for each row, or it is an error."""
    sessions = Sessions(FakeVocabulary(), "fake", BUDGET)
    sessions.add("s")
    sessions.step("s", CREATE, now_ms=0)
    sessions.step("s", InputTextAppend(text="a b c d"), now_ms=0)
    with pytest.raises(ValueError, match="zip"):
        sessions.update(sessions.plan(), [], now_ms=0)

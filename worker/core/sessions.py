"""The states of one engine's sessions: plan a pass, apply its outputs, track the lanes to free.

    sessions = Sessions(vocabulary, model_name, Budget())
    sessions.add(name)
    events = sessions.step(name, event, now_ms=now_ms)        # what a producer sends; other changes go through `apply`
    plan = sessions.plan()                                    # rows of those that have changed, lanes to be freed
    outputs = engine.run(plan.rows, plan.dropped)
    for update in sessions.update(plan, outputs, now_ms=now_ms):
        publish(update.name, update.events)
    sessions.forget(name)

`run_pass` and `run` are this loop for the library, evaluation and benchmarks. The service, which publishes while a pass
runs on the engine's thread, has its own on the same `plan` and `update_one`: `worker.app.worker`.
"""

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

import msgspec

from protocol import ClientEvent, ServerEvent, SessionPhase
from worker.core import scheduler, session
from worker.core.rows import Engine, Lane, Output, Row, Vocabulary
from worker.core.scheduler import Budget, Plan
from worker.core.segment import Segment
from worker.core.session import Outcome
from worker.core.state import State, lane_of


class Update(msgspec.Struct, frozen=True):
    """The changes of one pass to a session."""

    name: str
    row: Row
    output: Output
    before: State
    after: State
    events: tuple[ServerEvent, ...]  # to be published
    segment: Segment | None  # the row's segment, even if finished and gone; None: the session failed


class Sessions:
    """Session states by name. `plan` looks only at sessions that have changed since they were last found idle."""

    def __init__(
        self, vocabulary: Vocabulary, model_name: str, budget: Budget, *, numbers: Iterator[int] | None = None
    ) -> None:
        """Start without sessions. `numbers` name the lanes: several `Sessions` on one engine share them."""
        self.budget = budget
        self.changed: set[str] = set()
        """Sessions that have changed since their owner last emptied this set: they may have changes to save."""
        self._vocabulary = vocabulary
        self._model_name = model_name
        self._numbers = itertools.count() if numbers is None else numbers
        self._states: dict[str, State] = {}
        self._open: set[str] = set()
        self._unplanned: dict[str, None] = {}  # an ordered set: may want a pass
        self._dropped: set[Lane] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._states

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._states))

    def __len__(self) -> int:
        return len(self._states)

    @property
    def num_open(self) -> int:
        """Number of sessions that are open or closing."""
        return len(self._open)

    @property
    def num_unplanned(self) -> int:
        """Number of sessions that may want a pass."""
        return len(self._unplanned)

    def may_want_pass(self, name: str) -> bool:
        """Tell whether the session has changed since it was last found idle."""
        return name in self._unplanned

    def get(self, name: str) -> State | None:
        """Return the session's state; None: there is no such session."""
        return self._states.get(name)

    def add(self, name: str, state: State | None = None) -> State:
        """Add a session, in place of one with that name: a new one, or the given state, whose number must be unique.

        Return its state.
        """
        self.forget(name)
        if state is None:
            state = State(number=next(self._numbers))
        self._states[name] = state
        self._mark(name, state)
        return state

    def apply(self, name: str, change: Callable[[State], Outcome]) -> tuple[ServerEvent, ...]:
        """Replace the session's state by the outcome of a change. Return the events to publish.

        Changes are those of `worker.core.session`: `refuse`, `fail`, `expire`, `close_idle`; a replay has its own.
        """
        before = self._states[name]
        state, events = change(before)
        if state is not before:
            self._put(name, before, state)
        return events

    def step(
        self,
        name: str,
        event: ClientEvent,
        *,
        now_ms: int,
        heard_ms: int | None = None,
        source_id: str | None = None,
        is_replay: bool = False,
    ) -> tuple[ServerEvent, ...]:
        """Take one event of the session's source stream. Return the events to publish; see `session.step`."""
        return self.apply(
            name,
            lambda state: session.step(
                state,
                event,
                now_ms=now_ms,
                heard_ms=heard_ms,
                vocabulary=self._vocabulary,
                model=self._model_name,
                source_id=source_id,
                is_replay=is_replay,
            ),
        )

    def plan(self, only: str | None = None) -> Plan:
        """Plan the next pass for the sessions that may want one, or for only one. Each lane to free is named once."""
        names = self._unplanned if only is None else [only] if only in self._unplanned else []
        states = {name: self._states[name] for name in names}
        plan = scheduler.plan(states, self.budget, dropped=sorted(self._dropped))
        others = [] if only is None else [name for name in self._unplanned if name != only]
        self._unplanned = dict.fromkeys((*plan.sessions, *plan.deferred, *others))
        self._dropped.clear()
        return plan

    def update(self, plan: Plan, outputs: Sequence[Output], *, now_ms: int) -> list[Update]:
        """Take the outputs of a pass, one for each row. Return the changes."""
        planned = zip(plan.sessions, plan.rows, outputs, strict=True)
        updates = (self.update_one(name, row, output, now_ms=now_ms) for name, row, output in planned)
        return [update for update in updates if update is not None]

    def update_one(self, name: str, row: Row, output: Output, *, now_ms: int) -> Update | None:
        """Take one output. Return None if the row's segment has ended since the pass was planned."""
        before = self._states.get(name)
        if before is None or lane_of(before) != row.lane:
            return None
        state, events, segment = session.update(before, row, output, now_ms=now_ms, vocabulary=self._vocabulary)
        self._put(name, before, state)
        return Update(name, row, output, before, state, events, segment)

    def forget(self, name: str) -> None:
        """Remove the session, if there is one; the next plan frees its lane."""
        state = self._states.pop(name, None)
        if state is not None:
            self._drop(lane_of(state))
            self._unplanned.pop(name, None)
            self.changed.discard(name)
            self._open.discard(name)

    def forget_all(self) -> None:
        """Remove all sessions."""
        for name in self:
            self.forget(name)

    def _put(self, name: str, before: State, state: State) -> None:
        lane = lane_of(before)
        if lane != lane_of(state):
            self._drop(lane)
        self._states[name] = state
        self._mark(name, state)

    def _drop(self, lane: Lane | None) -> None:
        if lane is not None:
            self._dropped.add(lane)

    def _mark(self, name: str, state: State) -> None:
        self._unplanned[name] = None
        self.changed.add(name)
        is_open = state.phase in (SessionPhase.OPEN, SessionPhase.CLOSING)
        (self._open.add if is_open else self._open.discard)(name)


def run_pass(sessions: Sessions, engine: Engine, clock_ms: Callable[[], int]) -> list[Update] | None:
    """Run one pass; return None without one if no session wants it and no lane is to free. Read `clock_ms` after it."""
    plan = sessions.plan()
    if not plan.rows and not plan.dropped:
        return None
    outputs = engine.run(plan.rows, plan.dropped)
    return sessions.update(plan, outputs, now_ms=clock_ms())


def run(sessions: Sessions, engine: Engine, clock_ms: Callable[[], int]) -> Generator[Update]:
    """Run passes until none is wanted."""
    while (updates := run_pass(sessions, engine, clock_ms)) is not None:
        yield from updates

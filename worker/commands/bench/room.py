"""Sessions that a worker would hold, served by the same machine, scheduler and engine; Redis is left out."""

from collections.abc import Callable, Iterable

from protocol import ClientEvent, Error, OutputTextDelta, Session, SessionCreate, SessionPhase
from worker.commands.bench.models import Rig
from worker.commands.faults import CommandError
from worker.core import scheduler
from worker.core import session as sessions
from worker.core.rows import Lane
from worker.core.scheduler import Budget
from worker.core.state import State, lanes
from worker.library.running import lane_numbers


class Room:
    """Sessions by name, those that have not closed. `close` frees what they hold."""

    def __init__(self, rig: Rig, budget: Budget | None = None) -> None:
        self._rig = rig
        self._budget = budget or Budget()
        self.states: dict[str, State] = {}
        self._dropped: set[Lane] = set()

    def open(self, name: str, session: Session, now_ms: int = 0) -> None:
        """The session is there."""
        self.states[name] = State(number=next(lane_numbers))
        self.hear(name, SessionCreate(session=session), now_ms)

    def hear(self, name: str, event: ClientEvent, now_ms: int = 0) -> None:
        """The session has heard the event. Raises CommandError where it is refused."""
        outcome = sessions.step(
            self.states[name], event, now_ms=now_ms, vocabulary=self._rig.vocabulary, model="", is_replay=True
        )
        self._take(name, outcome)

    def tick(self, clock_ms: Callable[[], int] = lambda: 0) -> list[tuple[str, OutputTextDelta]] | None:
        """The words of one pass over all sessions that want one, by session; None where there is nothing to do.

        `clock_ms` is asked once the pass is through.
        """
        busy = {name: state for name, state in self.states.items() if state.segments}
        plan = scheduler.plan(busy, self._budget, dropped=sorted(self._dropped))
        if not plan.rows and not plan.dropped:
            return None
        self._dropped.clear()
        sampled = self._rig.engine.run(plan.rows, plan.dropped)
        now_ms, found = clock_ms(), []
        for name, row, tokens in zip(plan.sessions, plan.rows, sampled, strict=True):
            outcome = sessions.update(self.states[name], row, tokens, now_ms=now_ms, vocabulary=self._rig.vocabulary)
            found += [(name, word) for word in self._take(name, outcome)]
        return found

    def close(self) -> None:
        """No session, no lane."""
        for state in self.states.values():
            self._dropped |= lanes(state)
        self._rig.engine.run((), self._dropped)
        self.states.clear()
        self._dropped.clear()

    def _take(self, name: str, outcome: sessions.Outcome) -> Iterable[OutputTextDelta]:
        state, events = outcome
        self._dropped |= lanes(self.states[name]) - lanes(state)
        self.states[name] = state
        if state.phase is SessionPhase.CLOSED:
            del self.states[name]
        for event in events:
            if isinstance(event, Error):
                raise CommandError(f"the model cannot take this text: {event.message}")
        return [event for event in events if isinstance(event, OutputTextDelta)]

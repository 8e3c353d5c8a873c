"""A driver of sessions over the fake engine: events and passes in any order, with rows in flight or not."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol import ClientEvent, OutputTextDelta, ServerEvent, SessionPhase, advance_server
from protocol.errors import IllegalEvent
from tests.worker.fakes import FakeModel, FakeRunner, FakeVocabulary
from worker.core import segment as segments
from worker.core import session as sessions
from worker.core.drafting import Drafting
from worker.core.replay import Visible, visible
from worker.core.rows import Lane, Row
from worker.core.scheduler import Budget, Plan
from worker.core.sessions import Sessions
from worker.core.state import Segments, State, backlog_words, lane_of

TIMES = {"elapsed_ms", "delay_ms"}
MODEL = FakeModel()


class Driver:
    """Sessions by name, one engine, a clock that the test moves; `events[name]` holds a session's published events,
    and `visible[name]` the data stored beside them.
    """

    def __init__(
        self,
        model: FakeModel = MODEL,
        vocabulary: FakeVocabulary | None = None,
        *,
        names: Iterable[str] = ("s",),
        budget: Budget | None = None,
        faulty: Iterable[Lane] = (),
        draft_quality: float | None = None,
    ) -> None:
        self.vocabulary = vocabulary or FakeVocabulary()
        self.runner = FakeRunner(model, faulty=faulty, draft_quality=draft_quality)
        has_drafter = draft_quality is not None
        self.sessions = Sessions(
            self.vocabulary, "fake", replace(budget or Budget(min_source_tokens=1), has_drafter=has_drafter)
        )
        self.events: dict[str, list[ServerEvent]] = {name: [] for name in names}
        self.visible: dict[str, list[Visible | None]] = {name: [] for name in self.events}
        for i, name in enumerate(self.events):
            self.sessions.add(name, State(number=i, drafting=Drafting(rate=0.9) if has_drafter else Drafting()))
        self.now_ms = 0
        self.rows: list[Row] = []

    @property
    def states(self) -> dict[str, State]:
        """All states by name."""
        return {name: self.state_of(name) for name in self.events}

    @property
    def state(self) -> State:
        """The only session's state."""
        return self.state_of("s")

    def state_of(self, name: str) -> State:
        """Return the state of one session."""
        state = self.sessions.get(name)
        assert state is not None
        return state

    def step(self, *events: ClientEvent, name: str = "s") -> list[ServerEvent]:
        """Give the session these events. Return the events that it publishes at once."""
        before = len(self.events[name])
        for event in events:
            self._keep(name, self.sessions.step(name, event, now_ms=self.now_ms, source_id="7-0"))
        return self.events[name][before:]

    def apply(self, change: Callable[[State], sessions.Outcome]) -> None:
        """Apply another change to the only session and publish its events."""
        self._keep("s", self.sessions.apply("s", change))

    def plan(self) -> Plan:
        """Plan the next pass."""
        return self.sessions.plan()

    def update(self, planned: Plan) -> None:
        """Run a plan and take its outputs."""
        outputs = self.runner.run(planned.rows, planned.dropped)
        self.rows += planned.rows
        for update in self.sessions.update(planned, outputs, now_ms=self.now_ms):
            self._keep(update.name, update.events)

    def tick(self) -> bool:
        """Run one pass. Tell whether any session wanted one."""
        planned = self.plan()
        self.update(planned)
        return bool(planned.rows)

    def run(self, limit: int = 100_000) -> "Driver":
        """Run passes until no session wants one."""
        for _ in range(limit):
            if not self.tick():
                return self
        raise AssertionError(f"still busy after {limit} passes")

    def evict(self) -> list[Lane]:
        """Tell the sessions that their lanes are lost. Return the lanes, which the runner still holds."""
        for name in self.events:
            self.sessions.apply(name, lambda state: (forget_cache(state), ()))
        return [lane for state in self.states.values() if (lane := lane_of(state)) is not None]

    def _keep(self, name: str, events: Sequence[ServerEvent]) -> None:
        self.events[name] += events
        self.visible[name] += visible(self.state_of(name), events)
        check_state(self.state_of(name))


def forget_cache(state: State) -> State:
    """Return the state as if all lanes were lost."""
    return replace(state, segments=Segments.of(segments.forget_cache(segment) for segment in state.segments))


def check_state(state: State) -> None:
    """Check the laws of every state: no finished segment in front, no empty open one, and only the last is open."""
    segments = list(state.segments)
    if segments and segments[0].is_finished:
        raise AssertionError("a finished segment was not published")
    if any(not segment.is_finished and not segment.source.words for segment in segments):
        raise AssertionError("an empty segment blocks the session")
    if any(not segment.source.ended for segment in segments[:-1]):
        raise AssertionError("an open segment is followed by another")
    if state.phase is SessionPhase.CLOSED and state.segments:
        raise AssertionError("a closed session still holds segments")
    unread = sum(segment.num_unread_words for segment in segments)
    if backlog_words(state) != unread:
        raise AssertionError(f"{unread} words are unread, the backlog says {backlog_words(state)}")


def check_stream(events: Sequence[ServerEvent]) -> None:
    """Check the laws of every target stream: numbers without gaps, a legal order, deltas that add up to segments."""
    phase, open_segment, text, lag = SessionPhase.ABSENT, 0, "", 0
    for number, event in enumerate(events, 1):
        assert event.seq == number
        try:
            phase = advance_server(phase, event)
        except IllegalEvent as error:
            raise AssertionError(f"event {number}: {error}") from error
        match msgspec.structs.asdict(event):
            case {"word": _, "segment": segment, "source_words_read": read}:
                assert segment == open_segment
                assert read >= lag
                text, lag = text + event.text, read  # type: ignore[union-attr]
            case {"finish_reason": reason, "segment": segment, "source_words": source_words}:
                assert segment == open_segment
                assert event.text == text  # type: ignore[union-attr]
                assert lag <= source_words
                assert (reason == "empty") == (source_words == 0)
                open_segment, text, lag = open_segment + 1, "", 0


def timeless(events: Iterable[ServerEvent]) -> list[dict[str, Any]]:
    """Return the events without fields that depend on the clock."""
    return [
        {key: value for key, value in msgspec.structs.asdict(event).items() if key not in TIMES}
        | {"type": type(event).__name__}
        for event in events
    ]


def deltas(events: Iterable[ServerEvent]) -> list[OutputTextDelta]:
    """Return the words among the events."""
    return [event for event in events if isinstance(event, OutputTextDelta)]

"""Drives sessions over the fake engine: events and ticks in any order, with rows in flight or not."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol import ClientEvent, OutputTextDelta, ServerEvent, SessionPhase, advance_server
from protocol.errors import IllegalEvent
from tests.worker.fakes import FakeModel, FakeRunner, FakeVocabulary
from worker.core import segment as segments
from worker.core import session as sessions
from worker.core.drafting import Drafting
from worker.core.rows import Lane, Row
from worker.core.scheduler import Budget, Plan, plan
from worker.core.state import State, backlog_words, lanes

TIMES = {"elapsed_ms", "delay_ms"}
MODEL = FakeModel()


class Driver:
    """Sessions by name, one engine, a clock that the test moves; `events[name]` is what a session has published."""

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
        drafting = Drafting() if draft_quality is None else Drafting(rate=0.9)
        self.states = {name: State(number=i, drafting=drafting) for i, name in enumerate(names)}
        self.events: dict[str, list[ServerEvent]] = {name: [] for name in self.states}
        self.budget = msgspec.structs.replace(
            budget or Budget(min_source_tokens=1), has_drafter=draft_quality is not None
        )
        self.now_ms = 0
        self.rows: list[Row] = []
        self._lanes: frozenset[Lane] = frozenset()

    @property
    def state(self) -> State:
        """The only session's state."""
        return self.states["s"]

    def step(self, *events: ClientEvent, name: str = "s") -> list[ServerEvent]:
        """What the session publishes at once when these events arrive."""
        before = len(self.events[name])
        for event in events:
            self._keep(
                name,
                sessions.step(
                    self.states[name],
                    event,
                    now_ms=self.now_ms,
                    vocabulary=self.vocabulary,
                    model="fake",
                    source_id="7-0",
                ),
            )
        return self.events[name][before:]

    def plan(self) -> Plan:
        """The next tick, with the lanes dropped that nobody needs any more."""
        needed = frozenset(lane for state in self.states.values() for lane in lanes(state))
        dropped, self._lanes = self._lanes - needed, needed
        return plan(self.states, self.budget, dropped=dropped)

    def update(self, planned: Plan) -> None:
        """Runs a plan and settles it."""
        results = self.runner.run(planned.rows, planned.dropped)
        for name, row, sampled in zip(planned.sessions, planned.rows, results, strict=True):
            self.rows.append(row)
            self._keep(
                name, sessions.update(self.states[name], row, sampled, now_ms=self.now_ms, vocabulary=self.vocabulary)
            )

    def tick(self) -> bool:
        """One tick; False where nobody wanted anything."""
        planned = self.plan()
        self.update(planned)
        return bool(planned.rows)

    def run(self, limit: int = 100_000) -> "Driver":
        """Ticks until nobody wants anything."""
        for _ in range(limit):
            if not self.tick():
                return self
        raise AssertionError(f"still busy after {limit} ticks")

    def evict(self) -> list[Lane]:
        """The states as if all lanes were gone, and which those are; the runner still holds them."""
        for name, state in self.states.items():
            rest = tuple(segments.forget_cache(segment) for segment in state.segments)
            self.states[name] = replace(state, segments=rest)
        return [lane for state in self.states.values() for lane in lanes(state)]

    def keep(self, name: str, outcome: sessions.Outcome) -> None:
        """Publishes an outcome that the test made itself."""
        self._keep(name, outcome)

    def _keep(self, name: str, outcome: sessions.Outcome) -> None:
        self.states[name], events = outcome
        self.events[name] += events
        check_state(self.states[name])


def check_state(state: State) -> None:
    """What holds of every state: no finished segment in front, no empty open one, and only the last is open."""
    if state.segments and state.segments[0].is_finished:
        raise AssertionError("a finished segment was not published")
    if any(not segment.is_finished and segment.num_words == 0 for segment in state.segments):
        raise AssertionError("an empty segment blocks the session")
    if any(not segment.ended for segment in state.segments[:-1]):
        raise AssertionError("an open segment is followed by another")
    if state.phase is SessionPhase.CLOSED and state.segments:
        raise AssertionError("a closed session still holds segments")
    if backlog_words(state) < 0:
        raise AssertionError("a backlog below zero")


def check_stream(events: Sequence[ServerEvent]) -> None:
    """What holds of every target stream: numbers without gaps, a legal order, deltas that add up to their segment."""
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
    """The events without what depends on the clock."""
    return [
        {key: value for key, value in msgspec.structs.asdict(event).items() if key not in TIMES}
        | {"type": type(event).__name__}
        for event in events
    ]


def deltas(events: Iterable[ServerEvent]) -> list[OutputTextDelta]:
    """The words among the events."""
    return [event for event in events if isinstance(event, OutputTextDelta)]

"""Entries of a source stream: one step for those that are heard and for those that are replayed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import ClientEvent, Error, SessionPhase
from tests.worker.fakes import FakeVocabulary
from worker.core import entries
from worker.core.append_log import Log
from worker.core.entries import Admission, WorkerFull, as_before, opens
from worker.core.session import NO_ROOM, Outcome
from worker.core.state import State

VOCABULARY = FakeVocabulary()
ALL = as_before(())
CREATE: dict[str, Any] = {
    "type": "session.create",
    "session": {"target_language": "fr", "limits": {"max_backlog_words": 3}},
}
APPEND: dict[str, Any] = {"type": "input_text.append", "text": "two words"}
KINDS: tuple[dict[str, Any] | str, ...] = (
    *(CREATE, APPEND, APPEND, {"type": "input_text.append", "text": "a" * 9_000}),
    *({"type": "input_text.finalize"}, {"type": "session.update", "session": {"target_language": "tlh"}}),
    *({"type": "session.close"}, {"type": "nonsense"}, {"text": "no type"}, "{"),
)


def stepped(state: State, source_id: str, data: bytes, *, heard_ms: int | None, admit: Admission = ALL) -> Outcome:
    """The session after an entry with this data."""
    fields = {b"event": data}
    return entries.step(state, source_id, fields, heard_ms=heard_ms, vocabulary=VOCABULARY, model="fake", admit=admit)


def heard(data: bytes, state: State, source_id: str, *, is_full: bool = False) -> tuple[State, list[str]]:
    """The session after an entry was heard, and the id if it was turned away for lack of room."""

    def admit(state: State, event: ClientEvent, source_id: str) -> None:
        if is_full and opens(state, event):
            raise WorkerFull("no room")

    state, events = stepped(state, source_id, data, heard_ms=9, admit=admit)
    return state, [source_id for event in events if isinstance(event, Error) and event.code in NO_ROOM]


def numbered(kind: dict[str, Any] | str, seq: int | None) -> bytes:
    """An entry's data, right or wrong."""
    if isinstance(kind, str):
        return kind.encode()
    return json.dumps(kind if seq is None else {**kind, "seq": seq}).encode()


def timeless(state: State) -> dict[str, Any]:
    """The state without what depends on when it was heard."""
    segments = [replace(segment, source=replace(segment.source, arrivals_ms=Log())) for segment in state.segments]
    return msgspec.structs.asdict(state) | {"segments": segments, "created_ms": 0, "active_ms": 0}


STEPS = st.sampled_from(["next", "next", "next", "again", "gap", "none"])


@given(st.lists(st.tuples(st.sampled_from(KINDS), STEPS), max_size=12), st.integers(0, 2), st.booleans())
@example([(CREATE, "next"), ({"type": "nonsense"}, "next"), (APPEND, "next")], 0, False)
@example([(CREATE, "next"), (APPEND, "next"), (APPEND, "next"), (APPEND, "none")], 0, False)
@example([(CREATE, "next"), (CREATE, "next"), (APPEND, "next")], 1, False)
def test_a_log_replayed_gives_the_session_that_heard_it(
    log: list[tuple[dict[str, Any] | str, str]], num_full: int, is_open: bool
) -> None:
    """Law: whatever stands in a log (bad, numbered, repeated, with gaps, too much), its replay gives the same state."""
    state, refused, seq = State(number=0), set[str](), 0
    stream: list[tuple[str, bytes]] = []
    if is_open:
        log = [(CREATE, "next"), *log]
    for i, (kind, step) in enumerate(log, 1):
        seq += {"next": 1, "again": 0, "gap": 2, "none": 0}[step]
        stream.append((f"{i}-0", numbered(kind, None if step == "none" else seq)))
        state, turned_away = heard(stream[-1][1], state, stream[-1][0], is_full=i <= num_full)
        refused.update(turned_away)
    again = State(number=0)
    for source_id, data in stream:
        again, _ = stepped(again, source_id, data, heard_ms=None, admit=as_before(refused))
    assert timeless(again) == timeless(state)


def test_an_event_that_cannot_be_decoded_uses_its_number() -> None:
    """Heard or replayed, the next number is no gap."""
    for heard_ms in (9, None):
        state = State(number=0)
        for seq, kind in enumerate([CREATE, {"type": "nonsense"}, APPEND], 1):
            state, events = stepped(state, f"{seq}-0", numbered(kind, seq), heard_ms=heard_ms)
            assert [event.code for event in events if isinstance(event, Error)] == ["unknown_event_type"] * (seq == 2)
        assert (state.phase, state.source_seq, state.source_words) == (SessionPhase.OPEN, 3, 2)


@pytest.mark.parametrize(
    ("source_id", "heard_ms", "arrival_ms"),
    [("5000-0", 9_000, 5_000), ("9001-0", 9_000, 9_000), ("1-0", 4_000_000, 4_000_000), ("1-0", None, 1)],
)
def test_a_word_arrives_when_redis_says_unless_that_cannot_be(
    source_id: str, heard_ms: int | None, arrival_ms: int
) -> None:
    """An id from the future, or from long ago, is a producer's own: then the word arrives when it is heard."""
    state = State(number=0)
    for data in (numbered(CREATE, None), numbered(APPEND, None)):
        state, _ = stepped(state, source_id, data, heard_ms=heard_ms)
    assert state.segments.first is not None
    assert state.segments.first.source.arrivals_ms == (arrival_ms,) * 2
    assert state.active_ms == (arrival_ms if heard_ms is None else heard_ms)


def test_an_entry_without_an_event_names_the_fields_it_has() -> None:
    """A misspelt field is told apart from broken JSON."""
    fields = {b"evnt": b"{}"}
    _, [error] = entries.step(
        State(number=0), "1-0", fields, heard_ms=1, vocabulary=VOCABULARY, model="fake", admit=ALL
    )
    assert isinstance(error, Error)
    assert (error.code, error.source_id) == ("malformed_event", "1-0")
    assert "`event`" in error.message
    assert "'evnt'" in error.message

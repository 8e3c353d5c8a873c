"""Applying one source-stream entry to its session: live service and replay take the same step.

A replay cannot know whether there was room for an entry at the time, so an `Admission` decides it.
"""

from collections.abc import Container, Mapping
from typing import Protocol

from protocol import (
    ClientEvent,
    ErrorCode,
    MalformedEvent,
    ProtocolError,
    SessionCreate,
    SessionPhase,
    decode_client,
    peek_seq,
)
from protocol.keys import EVENT_FIELD
from worker.core import session
from worker.core.intake import BacklogFull
from worker.core.rows import Vocabulary
from worker.core.session import Outcome
from worker.core.state import State

_OLDEST_MS = 3_600_000


class WorkerFull(ProtocolError):
    """The worker takes no more sessions."""

    code = ErrorCode.WORKER_FULL.value


class Admission(Protocol):
    """The check that there is room for an event."""

    def __call__(self, state: State, event: ClientEvent, source_id: str) -> None:
        """Raise WorkerFull or BacklogFull where there is no room."""


class Step(Protocol):
    """`step` with a model's vocabulary and name."""

    def __call__(
        self, state: State, source_id: str, fields: Mapping[bytes, bytes], *, heard_ms: int | None, admit: Admission
    ) -> Outcome:
        """Return the session after one entry."""


def opens(state: State, event: ClientEvent) -> bool:
    """Tell whether the event opens the session, so that the worker has one more session."""
    return isinstance(event, SessionCreate) and state.phase is SessionPhase.ABSENT


def as_before(refused: Container[str]) -> Admission:
    """Return the admission of a replay: refuse the entries with the ids in `refused`, admit all others."""

    def admit(state: State, event: ClientEvent, source_id: str) -> None:
        if source_id in refused:
            raise (WorkerFull if isinstance(event, SessionCreate) else BacklogFull)("there was no room for it")

    return admit


def step(
    state: State,
    source_id: str,
    fields: Mapping[bytes, bytes],
    *,
    heard_ms: int | None,
    vocabulary: Vocabulary,
    model: str,
    admit: Admission,
) -> Outcome:
    """Return the session after the entry with the id `source_id`; `heard_ms` None: it is a replay.

    Delays count from the word's arrival in Redis, idleness from `heard_ms`.
    """
    data = fields.get(EVENT_FIELD.encode(), b"")
    try:
        event = _decoded(fields, data)
        admit(state, event, source_id)
    except ProtocolError as error:
        return session.refuse(state, error, seq=peek_seq(data), source_id=source_id)
    return session.step(
        state,
        event,
        now_ms=_arrival_ms(source_id, heard_ms),
        heard_ms=heard_ms,
        vocabulary=vocabulary,
        model=model,
        source_id=source_id,
        is_replay=heard_ms is None,
    )


def order(source_id: str) -> tuple[int, int]:
    """Return the entry's place in its stream, to compare entries by.

    >>> order("9-1") < order("10-0")
    True
    """
    stamp, _, number = source_id.partition("-")
    return int(stamp), int(number or 0)


def _decoded(fields: Mapping[bytes, bytes], data: bytes) -> ClientEvent:
    if not data:
        names = ", ".join(repr(name.decode(errors="replace")[:40]) for name in fields) or "none"
        raise MalformedEvent(f"expected an event in the field `{EVENT_FIELD}`, got the fields {names}")
    return decode_client(data)


def _arrival_ms(source_id: str, heard_ms: int | None) -> int:
    # Entry ids carry Redis's clock. A producer may choose its own ids: then the time of reading counts.
    stamp_ms, _ = order(source_id)
    return stamp_ms if heard_ms is None or 0 <= heard_ms - stamp_ms <= _OLDEST_MS else heard_ms

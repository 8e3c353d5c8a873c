"""The numbers of a session's source events: which are new, which are repetitions, which are another producer's."""

import zlib
from typing import Final

from msgspec.structs import replace

from protocol import ClientEvent, ErrorCode, ProducerConflict, ProtocolError, encode
from worker.core.state import State

MAX_DIGESTS: Final = 1_024
"""So many newest events are told from others of the same number. A producer repeats no older ones: see `Outbox`."""

_LEAVES_NUMBER: Final = frozenset({ErrorCode.SEQUENCE_GAP, ErrorCode.BACKLOG_FULL, ErrorCode.PRODUCER_CONFLICT})


def take(state: State, event: ClientEvent) -> State | None:
    """Return the session with the event's number used; None: the event is a repetition.

    Raises SequenceGap; ProducerConflict for the event of a producer that has been replaced, or a repeated number with
    another content.
    """
    if event.seq is None:
        return state
    digest = zlib.crc32(encode(event))
    numbering = state.numbering.take(event.seq, event.producer)
    if numbering is not None:
        return replace(state, numbering=numbering, digests=state.digests.append(digest).without(_surplus(state)))
    back = event.seq - (state.source_seq or 0) - 1
    known = state.digests[back] if -back <= len(state.digests) else 0
    if known not in (0, digest):
        raise ProducerConflict(
            f"another event {event.seq} has come before this one, which is not translated",
            producer=event.producer or "",
        )
    return None


def refuse(state: State, error: ProtocolError, seq: int | None) -> State:
    """Return the session after a refused event.

    The number of an event that can never succeed counts as used, so that the next number is no gap. An event that comes
    too early (a gap, a full backlog) leaves its number: the producer sends it again.
    """
    if isinstance(error, ProducerConflict) and error.producer != state.numbering.producer:
        return replace(state, numbering=state.numbering.without(error.producer))
    is_next = seq in ((0, 1) if state.source_seq is None else (state.source_seq + 1,))
    if not is_next or error.code in _LEAVES_NUMBER:
        return state
    numbering = replace(state.numbering, last=seq)
    return replace(state, numbering=numbering, digests=state.digests.append(0).without(_surplus(state)))


def _surplus(state: State) -> int:
    return int(len(state.digests) >= MAX_DIGESTS)

"""Every event of the wire, as a frozen Struct told apart by its `type`.

    source stream   client -> worker   session.create, session.update, session.close,
                                       input_text.append, input_text.finalize
    target stream   worker -> client   session.created, session.updated, session.closed,
                                       output_text.delta, segment.done, error
    worker streams  operator <-> worker   worker.configure, worker.stats

Readers ignore fields they do not know and refuse types they do not know; so a field may be added within one wire
version, a type or a required field may not. `protocol.grammar` holds the legal order.
"""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from protocol.limits import MAX_SEQ, MAX_TEXT_CHARS
from protocol.options import Limits, Sampling, Session, SessionPatch, Speculation, apply_patch
from protocol.policies import Adaptive, AlignAtt, LocalAgreement, Policy, WaitK

WIRE_VERSION: Final = 1
"""The wire version of this package; it rises only when an old reader would misunderstand."""

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
ClientSeq: TypeAlias = Annotated[
    int, Meta(ge=0, le=MAX_SEQ, description="The client's own number: 0 or 1 first, then one more for each event.")
]
Producer: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1, max_length=64, description="Name of the program that numbers the events, a new one at each start."
    ),
]
TargetSeq: TypeAlias = Annotated[
    int,
    Meta(ge=1, le=MAX_SEQ, description="Number of the event in the target stream, from 1; the entry id is `<seq>-0`."),
]
Version: TypeAlias = Annotated[int, Meta(ge=1, description="Version of the wire.")]
SegmentIndex: TypeAlias = Annotated[int, Meta(ge=0, description="Segment of the session, from 0.")]
ElapsedMs: TypeAlias = Annotated[int, Meta(ge=0, description="Milliseconds since `session.created`.")]
FinishReason: TypeAlias = Literal["stop", "length", "empty"]
"""Why a segment ended: the model's end token, `max_new_words`, or no source words."""

CloseReason: TypeAlias = Literal["closed", "idle", "error"]


class _FromClient(Struct, frozen=True, kw_only=True, tag_field="type"):
    seq: ClientSeq | None = None
    producer: Producer | None = None


class SessionCreate(_FromClient, frozen=True, kw_only=True, tag="session.create"):
    """Open the session with these options; the first event of every source stream."""

    version: Version = WIRE_VERSION
    session: Session = Session()


class SessionUpdate(_FromClient, frozen=True, kw_only=True, tag="session.update"):
    """Change options of the open session."""

    session: SessionPatch


class SessionClose(_FromClient, frozen=True, kw_only=True, tag="session.close"):
    """Translate what has been sent, then close the session; the last event of a source stream."""


class InputTextAppend(_FromClient, frozen=True, kw_only=True, tag="input_text.append"):
    """Add source words to the open segment."""

    text: Annotated[
        str,
        Meta(max_length=MAX_TEXT_CHARS, description="Whole words with whitespace between (zh, ja: characters)."),
    ]


class InputTextFinalize(_FromClient, frozen=True, kw_only=True, tag="input_text.finalize"):
    """The segment's source is complete: translate the rest; the next append opens the next segment."""


class _FromWorker(Struct, frozen=True, kw_only=True, tag_field="type"):
    seq: TargetSeq


class SessionCreated(_FromWorker, frozen=True, kw_only=True, tag="session.created"):
    """The session is open; reports its options in full and the model that serves it."""

    version: Version
    session: Session
    model: str


class SessionUpdated(_FromWorker, frozen=True, kw_only=True, tag="session.updated"):
    """The options of the session from the next segment on."""

    session: Session


class SessionClosed(_FromWorker, frozen=True, kw_only=True, tag="session.closed"):
    """The session has ended; all its words have been published."""

    reason: CloseReason
    source_words: Count
    target_words: Count


class OutputTextDelta(_FromWorker, frozen=True, kw_only=True, tag="output_text.delta"):
    """One target word; it is never taken back."""

    segment: SegmentIndex
    index: Annotated[int, Meta(ge=0, description="Target word of the segment, from 0.")]
    word: Annotated[str, Meta(description="The bare word.")]
    text: Annotated[
        str, Meta(description="The word with the space before it; all of a segment, joined, are its translation.")
    ]
    tokens: Annotated[tuple[Count, ...], Meta(description="Token ids committed for the word.")]
    source_words_read: Annotated[
        int, Meta(ge=0, description="Source words of the segment that were read before this word was written.")
    ]
    elapsed_ms: ElapsedMs
    delay_ms: Annotated[int, Meta(ge=0, description="Milliseconds since the last source word that it needed arrived.")]


class SegmentDone(_FromWorker, frozen=True, kw_only=True, tag="segment.done"):
    """The segment's translation is complete; `text` repeats it whole."""

    segment: SegmentIndex
    text: str
    source_words: Count
    target_words: Count
    finish_reason: FinishReason
    average_lagging: Annotated[
        float | None, Meta(description="Average lag in source words; null where it is undefined.")
    ]
    elapsed_ms: ElapsedMs


class Error(_FromWorker, frozen=True, kw_only=True, tag="error"):
    """An event was refused or the session failed; `code` is stable, `message` is for people."""

    code: Annotated[str, Meta(description="One of the codes in `ErrorCode`; later versions may add some.")]
    message: str
    param: Annotated[str | None, Meta(description="Path of the wrong value, such as `$.session.policy.k`.")] = None
    source_id: Annotated[str | None, Meta(description="Entry id of the source event that caused the error.")] = None
    expected_seq: Annotated[int | None, Meta(description="With `sequence_gap`: the `seq` to send next.")] = None


class WorkerConfigure(Struct, frozen=True, kw_only=True, tag_field="type", tag="worker.configure"):
    """Change the settings of every worker that reads it; `null` leaves a setting as it is."""

    worker: Annotated[str | None, Meta(description="Only this worker; null: all running workers.")] = None
    drain: Annotated[bool | None, Meta(description="true: finish, hand the sessions over and exit.")] = None
    max_batch_size: Positive | None = None
    batch_timeout_ms: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    max_sessions: Positive | None = None
    use_speculative: bool | None = None
    max_draft_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None


class WorkerStats(Struct, frozen=True, kw_only=True, tag_field="type", tag="worker.stats"):
    """What one worker has done since it started; all numbers only grow, except `sessions` and `kv_bytes`."""

    worker: str
    model: str
    sessions: Annotated[int, Meta(ge=0, description="Sessions open now.")]
    source_words: Count
    target_words: Count
    ticks: Annotated[int, Meta(ge=0, description="Scheduler rounds that ran a forward pass.")]
    forwards: Annotated[int, Meta(ge=0, description="Rows computed; a pass over n sessions counts as n.")]
    tokens: Annotated[int, Meta(ge=0, description="Tokens fed: source, target and drafts.")]
    kv_bytes: Annotated[int, Meta(ge=0, description="Bytes of all keys and values now.")]
    uptime_ms: Count
    rows_per_tick: Annotated[float, Meta(ge=0)] | None = None
    passes: Annotated[int, Meta(ge=0, description="Forward passes, each over one row or many.")] = 0
    padding_tokens: Annotated[
        int, Meta(ge=0, description="Attention cells computed only to pad rows to one length.")
    ] = 0
    accepted_drafts: Count = 0
    proposed_drafts: Count = 0
    drafted_rows: Annotated[
        int, Meta(ge=0, description="Rows with drafts; `proposed_drafts` divided by it is their mean length.")
    ] = 0


ClientEvent: TypeAlias = SessionCreate | SessionUpdate | SessionClose | InputTextAppend | InputTextFinalize
ServerEvent: TypeAlias = SessionCreated | SessionUpdated | SessionClosed | OutputTextDelta | SegmentDone | Error
WorkerEvent: TypeAlias = WorkerConfigure | WorkerStats
Event: TypeAlias = ClientEvent | ServerEvent | WorkerEvent


def wire_type(event: type[Struct]) -> str:
    """Return the `type` of this class on the wire.

    >>> wire_type(SessionCreate)
    'session.create'
    """
    return str(event.__struct_config__.tag)


__all__ = [
    "WIRE_VERSION",
    "Adaptive",
    "AlignAtt",
    "ClientEvent",
    "Error",
    "Event",
    "InputTextAppend",
    "InputTextFinalize",
    "Limits",
    "LocalAgreement",
    "OutputTextDelta",
    "Policy",
    "Sampling",
    "SegmentDone",
    "ServerEvent",
    "Session",
    "SessionClose",
    "SessionClosed",
    "SessionCreate",
    "SessionCreated",
    "SessionPatch",
    "SessionUpdate",
    "SessionUpdated",
    "Speculation",
    "WaitK",
    "WorkerConfigure",
    "WorkerEvent",
    "WorkerStats",
    "apply_patch",
    "wire_type",
]

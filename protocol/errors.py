"""Errors in what a peer sent, and the codes by which the wire names them.

    ProtocolError
    ├── EventTooLarge        more bytes than its stream allows; not parsed
    ├── MalformedEvent       not JSON, or not UTF-8
    ├── UnknownEventType     a `type` that the stream does not carry
    ├── InvalidEvent         the right type, a wrong shape
    ├── UnsupportedVersion   a newer wire than ours
    ├── IllegalEvent         a valid event at the wrong time
    ├── SequenceGap          a missing number before this event
    ├── ProducerConflict     a number that another producer has used, or a producer that has been replaced
    └── InvalidSessionId     an id that cannot name a stream

All are the peer's mistakes, never ours: `code` and `param` go into an `error` event unchanged.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Every code that an `error` event may carry; `remedy` says in one line what the peer should do."""

    MALFORMED_EVENT = "malformed_event"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    EVENT_TOO_LARGE = "event_too_large"
    INVALID_EVENT = "invalid_event"
    UNSUPPORTED_VERSION = "unsupported_version"
    SESSION_NOT_CREATED = "session_not_created"
    SESSION_EXISTS = "session_exists"
    SESSION_CLOSED = "session_closed"
    ILLEGAL_EVENT = "illegal_event"
    SEQUENCE_GAP = "sequence_gap"
    PRODUCER_CONFLICT = "producer_conflict"
    BACKLOG_FULL = "backlog_full"
    SEGMENT_TOO_LONG = "segment_too_long"
    UNSUPPORTED_LANGUAGE = "unsupported_language"
    UNSUPPORTED_OPTION = "unsupported_option"
    WORKER_FULL = "worker_full"
    POISON_EVENT = "poison_event"
    ENGINE_ERROR = "engine_error"
    INTERNAL_ERROR = "internal_error"

    @property
    def remedy(self) -> str:
        """One line that tells the peer what to do."""
        return REMEDIES[self]


REMEDIES: dict[ErrorCode, str] = {
    ErrorCode.MALFORMED_EVENT: "Send one JSON object in UTF-8 in the entry's `event` field.",
    ErrorCode.UNKNOWN_EVENT_TYPE: "Use one of the types listed in the message.",
    ErrorCode.EVENT_TOO_LARGE: "Split the text over several `input_text.append` events.",
    ErrorCode.INVALID_EVENT: "Correct the value at `param`; `decalage schema` prints the expected shape.",
    ErrorCode.UNSUPPORTED_VERSION: "Send the `version` named in the message, or upgrade the worker.",
    ErrorCode.SESSION_NOT_CREATED: "Send `session.create` first.",
    ErrorCode.SESSION_EXISTS: "Change the open session with `session.update`, or use another session id.",
    ErrorCode.SESSION_CLOSED: "Open a session under another id; a closed one never reopens.",
    ErrorCode.ILLEGAL_EVENT: "Send only events that the session's phase allows.",
    ErrorCode.SEQUENCE_GAP: "Send the event with `expected_seq`, then go on from there.",
    ErrorCode.PRODUCER_CONFLICT: "Let only one producer write: stop the others, or give each its own session.",
    ErrorCode.BACKLOG_FULL: "Send again when deltas have arrived, or raise `limits.max_backlog_words`.",
    ErrorCode.SEGMENT_TOO_LONG: "Send `input_text.finalize` to end the segment, then go on in the next one.",
    ErrorCode.UNSUPPORTED_LANGUAGE: "Choose one of the languages that the message lists.",
    ErrorCode.UNSUPPORTED_OPTION: "Leave out the option at `param`; this worker or model does not have it.",
    ErrorCode.WORKER_FULL: "Try again later, or start another worker.",
    ErrorCode.POISON_EVENT: "Open a new session without the event at `source_id`; the dead-letter stream holds it.",
    ErrorCode.ENGINE_ERROR: "Open a new session; if it happens again, report the message with the worker's log.",
    ErrorCode.INTERNAL_ERROR: "Open a new session; if it happens again, report the message with the worker's log.",
}


class ProtocolError(Exception):
    """A peer broke the protocol; `str()` says expected, got, where and remedy."""

    code: str = ErrorCode.INVALID_EVENT
    param: str | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class EventTooLarge(ProtocolError):
    """The event has more bytes than its stream allows, and is not parsed."""

    code = ErrorCode.EVENT_TOO_LARGE


class MalformedEvent(ProtocolError):
    """The event is not JSON in UTF-8."""

    code = ErrorCode.MALFORMED_EVENT


class UnknownEventType(ProtocolError):
    """The event's `type` is not one that its stream carries."""

    code = ErrorCode.UNKNOWN_EVENT_TYPE


class InvalidEvent(ProtocolError):
    """The event's type is known, but its shape is wrong at `param`."""

    code = ErrorCode.INVALID_EVENT


class UnsupportedVersion(ProtocolError):
    """The peer speaks a newer version of the wire."""

    code = ErrorCode.UNSUPPORTED_VERSION


class IllegalEvent(ProtocolError):
    """The event is well formed but not legal in this phase; `code` says which rule it breaks."""

    def __init__(self, message: str, *, code: ErrorCode = ErrorCode.ILLEGAL_EVENT) -> None:
        super().__init__(message)
        self.code = code


class SequenceGap(ProtocolError):
    """The event numbered `expected` is missing; the one numbered `got` is not consumed."""

    code = ErrorCode.SEQUENCE_GAP

    def __init__(self, *, expected: int, got: int) -> None:
        super().__init__(f"expected seq {expected}, got {got}: send {expected} and go on from there", param="$.seq")
        self.expected = expected
        self.got = got


class ProducerConflict(ProtocolError):
    """Two producers number their events in one session; the event of `producer` is not consumed."""

    code = ErrorCode.PRODUCER_CONFLICT

    def __init__(self, message: str, *, producer: str) -> None:
        super().__init__(f"{message}. {ErrorCode.PRODUCER_CONFLICT.remedy}")
        self.producer = producer


class InvalidSessionId(ProtocolError):
    """The id cannot name a session's streams; it never reaches an `error` event, as there is no stream for it."""

    code = "invalid_session_id"

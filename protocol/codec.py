"""Events to JSON and back: one encoder, one typed decoder for each kind of stream.

Decoding raises only what `protocol.errors` draws: whatever bytes arrive, the caller gets an event or a ProtocolError.
"""

import re
from typing import Any, Final, Generic, NoReturn, TypeVar, get_args

import msgspec
from msgspec import Struct

from protocol.errors import (
    EventTooLarge,
    InvalidEvent,
    MalformedEvent,
    ProtocolError,
    UnknownEventType,
    UnsupportedVersion,
)
from protocol.events import (
    WIRE_VERSION,
    ClientEvent,
    Event,
    ServerEvent,
    SessionCreate,
    WorkerEvent,
    wire_type,
)
from protocol.limits import MAX_EVENT_BYTES, MAX_TARGET_EVENT_BYTES

_E = TypeVar("_E")

# Exceptions of msgspec for hostile bytes, besides ValidationError: broken JSON, broken UTF-8 (UnicodeDecodeError is a
# ValueError) and nesting deeper than the interpreter's stack.
_UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)
_WHERE: Final = re.compile(r" - at (?:`key` in )?`(\$[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(\w+)`$")
_MAX_ECHO_CHARS: Final = 200
"""How much of a peer's value an error repeats, so that the size of an error is bounded."""


class _Reader(Struct, Generic[_E], frozen=True):
    decoder: msgspec.json.Decoder[_E]
    known: tuple[str, ...]
    max_bytes: int


def _reader(union: Any, max_bytes: int) -> _Reader[Any]:
    return _Reader(msgspec.json.Decoder(union), tuple(wire_type(member) for member in get_args(union)), max_bytes)


_ENCODER: Final = msgspec.json.Encoder()
_CLIENT: Final[_Reader[ClientEvent]] = _reader(ClientEvent, MAX_EVENT_BYTES)
_SERVER: Final[_Reader[ServerEvent]] = _reader(ServerEvent, MAX_TARGET_EVENT_BYTES)
_WORKER: Final[_Reader[WorkerEvent]] = _reader(WorkerEvent, MAX_EVENT_BYTES)


def encode(event: Event) -> bytes:
    """Encode the event as one JSON object in UTF-8. Raises InvalidEvent for text that UTF-8 cannot hold."""
    try:
        return _ENCODER.encode(event)
    except UnicodeEncodeError as failure:
        raise InvalidEvent(f"expected text that UTF-8 can hold, got {failure}; remove the lone surrogate") from None


def decode_client(data: bytes | str) -> ClientEvent:
    """Decode an event of a source stream. Raises a ProtocolError that says what is wrong and where."""
    raw = _sized(data, _CLIENT.max_bytes)
    event = _decode(raw, _CLIENT)
    if isinstance(event, SessionCreate):
        _check_version(event.version)
    return event


def decode_server(data: bytes | str) -> ServerEvent:
    """Decode an event of a target stream. Raises a ProtocolError that says what is wrong and where."""
    return _decode(_sized(data, _SERVER.max_bytes), _SERVER)


def decode_worker(data: bytes | str) -> WorkerEvent:
    """Decode an event of a worker stream. Raises a ProtocolError that says what is wrong and where."""
    return _decode(_sized(data, _WORKER.max_bytes), _WORKER)


def check(event: ClientEvent) -> bytes:
    """Encode the event and check that it decodes. Raises the ProtocolError that the worker would answer with."""
    data = encode(event)
    read = decode_client(data)
    if read != event:  # JSON can hold the value, but as another one, as bytes become base64
        name = next(name for name in event.__struct_fields__ if getattr(read, name) != getattr(event, name))
        raise InvalidEvent(
            f"expected a value for `$.{name}` that JSON holds as it is, got {type(getattr(event, name)).__name__}"
        )
    return data


class _Numbered(Struct):
    seq: Any = None
    producer: Any = None


_NUMBERED: Final = msgspec.json.Decoder(_Numbered)


def peek_seq(data: bytes) -> int | None:
    """Read the `seq` of an event that may be wrong in everything else; None: it has no readable one."""
    seq = _peek(data).seq
    return seq if type(seq) is int and seq >= 0 else None


def peek_producer(data: bytes) -> str:
    """Read the `producer` of an event that may be wrong in everything else; empty: it names none."""
    producer = _peek(data).producer
    return producer if isinstance(producer, str) else ""


def _peek(data: bytes) -> _Numbered:
    try:
        return _NUMBERED.decode(_sized(data, MAX_EVENT_BYTES))
    except (ProtocolError, *_UNREADABLE):
        return _Numbered()


def _sized(data: bytes | str, max_bytes: int) -> bytes:
    if len(data) <= max_bytes:
        try:
            data = data.encode() if isinstance(data, str) else data
        except UnicodeEncodeError as failure:
            raise MalformedEvent(f"expected JSON in UTF-8, got {failure}") from None
    if isinstance(data, bytes) and len(data) <= max_bytes:
        return data
    raise EventTooLarge(f"expected at most {max_bytes} bytes, got {len(data)} or more: split the event")


def _decode(raw: bytes, reader: _Reader[_E]) -> _E:
    try:
        return reader.decoder.decode(raw)
    except msgspec.ValidationError as failure:
        reason = str(failure)
    except _UNREADABLE as failure:
        _refuse_unreadable(failure)
    raise _explain(raw, reason, reader.known)


def _refuse_unreadable(failure: Exception) -> NoReturn:
    raise MalformedEvent(f"expected one JSON object in UTF-8, got something else: {failure}") from None


def _explain(raw: bytes, reason: str, known: tuple[str, ...]) -> ProtocolError:
    """Return the error for a refused event, the most general reason first: syntax, type, version, shape."""
    try:
        content = msgspec.json.decode(raw)
    except _UNREADABLE as failure:
        _refuse_unreadable(failure)
    if isinstance(content, dict):
        kind, version = content.get("type"), content.get("version")
        if isinstance(kind, str) and kind not in known:
            message = f"unknown event type {kind[:_MAX_ECHO_CHARS]!r}: expected one of {', '.join(known)}"
            return UnknownEventType(message, param="$.type")
        if kind == wire_type(SessionCreate) and isinstance(version, int) and version > WIRE_VERSION:
            return _unsupported(version)
    return invalid_event(reason)


def invalid_event(reason: str) -> InvalidEvent:
    """Split the path off the reason of msgspec's decoder: `Expected ... - at `$.a.b`` -> param `$.a.b`."""
    path = _WHERE.search(reason)
    param = path[1] if path else "$"
    text = reason[: path.start()] if path else reason
    missing = _MISSING.search(text)
    param = f"{param}.{missing[1]}" if missing else param
    return InvalidEvent(f"{text[:_MAX_ECHO_CHARS]} at `{param}`", param=param)


def _check_version(version: int) -> None:
    if version > WIRE_VERSION:
        raise _unsupported(version)


def _unsupported(version: int) -> UnsupportedVersion:
    # A hostile version may have thousands of digits, more than Python prints.
    got = str(version) if version.bit_length() < 64 else "a far larger one"
    message = f"expected wire version {WIRE_VERSION} or lower, got {got}: send version {WIRE_VERSION}"
    return UnsupportedVersion(message, param="$.version")

"""The events of OpenAI's realtime translation sessions, and what they are in events of the wire. No I/O.

Besides OpenAI's own client events there is `session.input_text.append {text}`, for words instead of sound.
"""

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from producers.gateway.errors import ApiError
from protocol import (
    Error,
    InvalidEvent,
    OutputTextDelta,
    ProtocolError,
    SegmentDone,
    ServerEvent,
    Session,
    SessionClosed,
    UnknownEventType,
)
from protocol.codec import invalid_event
from protocol.options import Language

Json: TypeAlias = dict[str, Any]


class Transcription(Struct, frozen=True):
    """The source's transcript is wanted; `model` is not used, as the source is text."""

    model: str = ""


class AudioInput(Struct, frozen=True):
    """Options of the source; what concerns sound is taken and not used."""

    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: Any = None


class AudioOutput(Struct, frozen=True):
    """Options of the translation."""

    language: Language | UnsetType | None = UNSET


class Audio(Struct, frozen=True):
    """Options of source and translation."""

    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class SessionOptions(Struct, frozen=True):
    """The `session` of `session.update` and of a client secret."""

    audio: Audio = field(default_factory=Audio)
    model: str = ""
    source_language: Language = "en"
    """An option of ours."""


class _FromClient(Struct, frozen=True, tag_field="type", kw_only=True):
    event_id: str | None = None


class SessionUpdate(_FromClient, frozen=True, tag="session.update", kw_only=True):
    """Change the options."""

    session: SessionOptions


class InputTextAppend(_FromClient, frozen=True, tag="session.input_text.append", kw_only=True):
    """Add source words."""

    text: str


class InputAudioAppend(_FromClient, frozen=True, tag="session.input_audio_buffer.append", kw_only=True):
    """Add sound, which needs a speech recogniser."""

    audio: str


class SessionClose(_FromClient, frozen=True, tag="session.close", kw_only=True):
    """Translate the rest, then end."""


ClientEvent: TypeAlias = SessionUpdate | InputTextAppend | InputAudioAppend | SessionClose

_DECODER: Final[msgspec.json.Decoder[ClientEvent]] = msgspec.json.Decoder(ClientEvent)
_KNOWN: Final = ("session.update", "session.input_text.append", "session.input_audio_buffer.append", "session.close")


class _Head(Struct):
    type: str
    event_id: str | None = None


def decode(text: str) -> ClientEvent:
    """Decode a client event. Raises a ProtocolError, or ApiError for JSON that is none."""
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError as failure:
        raise _refusal(text, str(failure)) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise _malformed() from None


def _refusal(text: str, reason: str) -> ApiError | ProtocolError:
    # msgspec stops at the first thing that is wrong: what follows it may be no JSON at all.
    try:
        kind = msgspec.json.decode(text, type=_Head).type
    except msgspec.ValidationError:
        return invalid_event(reason)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _malformed()
    if kind in _KNOWN:
        return invalid_event(reason)
    return UnknownEventType(f"expected one of {', '.join(_KNOWN)}, got {kind[:100]!r}", param="type")


def _malformed() -> ApiError:
    return ApiError(400, "malformed_event", "expected one JSON object in UTF-8, got something else")


def event_id_of(text: str) -> str | None:
    """Return the `event_id` of a message that may be wrong in everything else."""
    try:
        return msgspec.json.decode(text, type=_Head).event_id
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def refuse_audio() -> InvalidEvent:
    """Return the error for sound."""
    return InvalidEvent(
        "expected text: this gateway has no speech recogniser; send the words as session.input_text.append",
        param="type",
    )


class State(Struct):
    """The options of a session, as the client has set them."""

    model: str
    target_language: str | None = None
    source_language: str = "en"
    has_transcript: bool = False

    def update(self, options: SessionOptions) -> None:
        """Take the options that are given."""
        if isinstance(options.audio.output.language, str):
            self.target_language = options.audio.output.language
        if options.audio.input.transcription is not UNSET:
            self.has_transcript = options.audio.input.transcription is not None
        self.source_language = options.source_language

    @property
    def session(self) -> Session:
        """The options of the wire's session; sentences end segments, as nobody sends an end of one."""
        return Session(
            source_language=self.source_language, target_language=self.target_language, segmentation="sentence"
        )

    def described(self, session_id: str, expires_at_s: int) -> Json:
        """Return the session as OpenAI's events show it."""
        transcription = {"model": "text"} if self.has_transcript else None
        return {
            "id": session_id,
            "type": "translation",
            "model": self.model,
            "expires_at": expires_at_s,
            "audio": {
                "input": {"transcription": transcription, "noise_reduction": None},
                "output": {"language": self.target_language},
            },
        }


def to_openai(event: ServerEvent) -> Json | None:
    """Return an event of the wire as OpenAI's, without its `event_id`; None: there is none for it."""
    match event:
        case OutputTextDelta(text=text, elapsed_ms=elapsed_ms):
            return {"type": "session.output_transcript.delta", "delta": text, "elapsed_ms": elapsed_ms}
        case SegmentDone(text=text, elapsed_ms=elapsed_ms) if text:
            # Deltas are joined without a blank between, also across segments.
            return {"type": "session.output_transcript.delta", "delta": " ", "elapsed_ms": elapsed_ms}
        case SessionClosed():
            return {"type": "session.closed"}
        case Error(code=code, message=message, param=param):
            return error_event({"type": "invalid_request_error", "code": code, "message": message, "param": param})
        case _:
            return None


def error_event(error: Json, event_id: str | None = None) -> Json:
    """Return an error as OpenAI's event; `event_id` is that of the client's event."""
    return {"type": "error", "error": {**error, "event_id": event_id}}

"""The routes of sessions: open, write, ask, close, and links for listeners."""

import asyncio
import time
from collections.abc import Iterator
from secrets import token_hex
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.auth import Caller
from producers.gateway.endpoint import json_response, read_json
from producers.gateway.errors import ApiError, session_not_found
from producers.gateway.gateway import SESSION_PREFIX, Gateway
from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    InvalidEvent,
    Session,
    SessionClose,
    SessionCreate,
    SessionPatch,
    SessionPhase,
    apply_patch,
    check,
)
from protocol.limits import MAX_TEXT_CHARS
from protocol.options import Language

MAX_VARIANTS: Final = 8
MAX_LINK_S: Final = 30 * 86_400
GROUP_PREFIX: Final = "group_"


class CreateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sessions`."""

    session: Session = Session()
    target_languages: Annotated[tuple[Language, ...], Meta(min_length=1, max_length=MAX_VARIANTS)] | None = None
    variants: Annotated[tuple[SessionPatch, ...], Meta(min_length=1, max_length=MAX_VARIANTS)] | None = None


class InputRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sessions/{id}/input`."""

    text: str | None = None
    finalize: bool = False
    close: bool = False
    events: tuple[ClientEvent, ...] | None = None


class LinkRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sessions/{id}/links`."""

    expires_in_s: Annotated[int, Meta(ge=1, le=MAX_LINK_S)] = 3_600


async def create_session(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Open a session, or one for each target language or variant."""
    asked = await read_json(request, CreateRequest)
    if asked.target_languages is not None and asked.variants is not None:
        raise ApiError(400, "invalid_value", "expected target_languages or variants, got both", param="$.variants")
    patches = asked.variants or tuple(SessionPatch(target_language=each) for each in asked.target_languages or ())
    if not patches:
        session_id = await gateway.create(caller, asked.session)
        return json_response(_described(session_id, asked.session), 201)
    options = [apply_patch(asked.session, patch) for patch in patches]
    stem = token_hex(16)
    sessions = dict(zip(_members(stem, len(options)), options, strict=True))
    await gateway.create_all(caller, sessions)
    group = {"object": "session.group", "id": f"{GROUP_PREFIX}{stem}.{len(options)}"}
    return json_response({**group, "sessions": [_described(*each) for each in sessions.items()]}, 201)


def _described(session_id: str, session: Session) -> dict[str, Any]:
    return {"object": "session", "id": session_id, "session": session}


def _members(stem: str, number: int) -> list[str]:
    return [f"{SESSION_PREFIX}{stem}.{index}" for index in range(number)]


def members(session_id: str) -> list[str]:
    """Return the sessions that an id names: those of a group, or the one session. Raises ApiError for a wrong group.

    >>> members("group_1f.2"), members("talk-1")
    (['sess_1f.0', 'sess_1f.1'], ['talk-1'])
    """
    if not session_id.startswith(GROUP_PREFIX):
        return [session_id]
    stem, _, number = session_id.removeprefix(GROUP_PREFIX).partition(".")
    if number not in map(str, range(1, MAX_VARIANTS + 1)):
        raise session_not_found()
    return _members(stem, int(number))


async def send_input(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Write events to a session, or to all sessions of a group."""
    session_id = request.path_params["id"]
    names = members(session_id)
    for name in names:
        await gateway.check_access(caller, name)
    asked = await read_json(request, InputRequest)
    events = [check(event) for event in _events(asked)]
    closed = await _write(gateway, names, events)
    answer = {"object": "session.input", "id": session_id, "num_events": len(events), "closed": closed}
    return json_response(answer, 202)


async def close_session(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Close a session, or all sessions of a group, once what they have is translated."""
    session_id = request.path_params["id"]
    names = members(session_id)
    for name in names:
        await gateway.check_access(caller, name)
    await _write(gateway, names, [check(SessionClose())])
    return json_response({"object": "session", "id": session_id, "phase": "closing"}, 202)


async def _write(gateway: Gateway, names: list[str], events: list[bytes]) -> list[str]:
    """Write the events to the sessions that are not closed, and return those that are. Raises ApiError if all are."""
    statuses = await asyncio.gather(*map(gateway.directory.status, names))
    closed = [name for name, status in zip(names, statuses, strict=True) if status.phase is SessionPhase.CLOSED]
    if len(closed) == len(names):
        raise ApiError(409, "session_closed", "the session is closed and never reopens: open a new one", param="id")
    await asyncio.gather(*(gateway.writer.send(name, events) for name in names if name not in closed))
    gateway.figures.input_events += (len(names) - len(closed)) * len(events)
    return closed


def _events(asked: InputRequest) -> list[ClientEvent]:
    is_plain = asked.text is not None or asked.finalize or asked.close
    if asked.events is not None and is_plain:
        raise ApiError(400, "invalid_value", "expected events, or text, finalize and close; got both", param="$.events")
    for index, event in enumerate(asked.events or ()):
        if isinstance(event, SessionCreate):
            message = "expected events of an open session, got session.create: use POST /v1/sessions"
            raise InvalidEvent(message, param=f"$.events[{index}].type")
    events: list[ClientEvent] = list(asked.events or ())
    events += [InputTextAppend(text=part) for part in split_text(asked.text or "")]
    events += [InputTextFinalize()] if asked.finalize else []
    return events + ([SessionClose()] if asked.close else [])


def split_text(text: str, max_chars: int = MAX_TEXT_CHARS) -> Iterator[str]:
    """Yield a text in parts that fit into one event each, cut at white space where there is some.

    >>> list(split_text("one two three", 8))
    ['one two', ' three']
    """
    while len(text) > max_chars:
        cut = max((at for at in range(max_chars, 0, -1) if text[at].isspace()), default=max_chars)
        yield text[:cut]
        text = text[cut:]
    if text.strip():
        yield text


async def get_session(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Tell where a session stands."""
    session_id = request.path_params["id"]
    await gateway.check_access(caller, session_id)
    status = await gateway.directory.status(session_id)
    phase, last_seq = status.phase.value, status.last_seq
    return json_response({"object": "session", "id": session_id, "phase": phase, "last_seq": last_seq})


async def create_link(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Sign a link that reads the events of one session."""
    session_id = request.path_params["id"]
    caller.require_lasting()
    await gateway.check_access(caller, session_id)
    asked = await read_json(request, LinkRequest)
    expires_at_s = int(time.time()) + asked.expires_in_s
    token = gateway.keys.link(session_id, expires_at_s)
    url = f"{request.base_url}#listen={token}"
    return json_response(
        {"object": "session.link", "session": session_id, "token": token, "expires_at": expires_at_s, "url": url}, 201
    )

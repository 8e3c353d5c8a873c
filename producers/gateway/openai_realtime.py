"""OpenAI's realtime translation: `WS /v1/realtime/translations`, and short-lived keys for browsers.

The wire's session is opened with the first words, since only then its language is known.
"""

import asyncio
import time
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from producers.gateway import openai_events as openai
from producers.gateway.auth import Caller
from producers.gateway.endpoint import json_response, read_json
from producers.gateway.errors import ApiError, api_error
from producers.gateway.gateway import Gateway, new_session_id
from producers.gateway.listening import listen
from producers.gateway.sessions import split_text
from producers.gateway.sockets import CloseCode, Closed, Socket, beside
from protocol import (
    InputTextAppend,
    ProtocolError,
    SessionClose,
    SessionCreate,
    SessionPatch,
    SessionUpdate,
    SessionUpdated,
    check,
    decode_server,
)

SESSION_S: Final = 3_600
"""The time that a session's `expires_at` names; what ends a session is its idle time-out."""


class ExpiresAfter(Struct, frozen=True):
    """How long a client secret opens sessions."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7_200)] = 600


class ClientSecretRequest(Struct, frozen=True):
    """The body of `POST /v1/realtime/translations/client_secrets`."""

    session: openai.SessionOptions
    expires_after: ExpiresAfter = ExpiresAfter()


async def create_client_secret(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Sign a key that opens translation sessions for a while, with these options as defaults."""
    caller.require_lasting()
    asked = await read_json(request, ClientSecretRequest)
    if not asked.session.model:
        raise ApiError(400, "invalid_value", "expected the name of a model, got none: any name will do", param="model")
    expires_at_s = int(time.time()) + asked.expires_after.seconds
    value = gateway.keys.client_secret(caller, msgspec.json.encode(asked.session), expires_at_s)
    state = openai.State(asked.session.model)
    state.update(asked.session)
    session = state.described(new_session_id(), expires_at_s)
    return json_response({"value": value, "expires_at": expires_at_s, "session": session})


async def translations(socket: Socket, gateway: Gateway, caller: Caller) -> None:
    """Serve one translation session in OpenAI's events."""
    caller.require("produce")
    caller.require("subscribe")
    state = openai.State("")
    if caller.defaults:
        defaults = msgspec.json.decode(caller.defaults, type=openai.SessionOptions)
        state.model = defaults.model
        state.update(defaults)
    state.model = socket.websocket.query_params.get("model") or state.model
    if not state.model:
        raise ApiError(400, "invalid_value", "expected ?model=NAME, got none: any name will do", param="model")
    await gateway.check_workers()
    await gateway.check_sessions(caller)
    await socket.accept()
    await _Translation(socket, gateway, caller, state).run()


class _Translation:
    """One connection: the client's events until the first words, then both directions."""

    def __init__(self, socket: Socket, gateway: Gateway, caller: Caller, state: openai.State) -> None:
        self._socket = socket
        self._gateway = gateway
        self._caller = caller
        self._state = state
        self._session_id = new_session_id()
        self._expires_at_s = int(time.time()) + SESSION_S
        self._start_s = time.monotonic()
        self._num_events = 0
        self._is_open = False
        self._is_closing = False

    async def run(self) -> None:
        await self._tell_session("session.created")
        await self._wait_for_words()
        if self._is_open:
            async with self._gateway.feeds.open(self._session_id) as feed, beside(self._take_all):
                async for events in listen(feed, 0, self._gateway.settings.heartbeat_s):
                    for event in events:
                        await self._translate(event.data)
                    self._gateway.figures.output_events += len(events)
        else:
            await self._tell({"type": "session.closed"})
        raise Closed(CloseCode.ENDED, "the session has ended")

    async def _wait_for_words(self) -> None:
        limit_s = self._gateway.settings.translation_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                while not (self._is_open or self._is_closing):
                    await self._take()
        except TimeoutError:
            raise Closed(CloseCode.IDLE, f"no words within {limit_s:g} s") from None

    async def _take_all(self) -> None:
        while True:
            await self._take()

    async def _take(self) -> None:
        """Take the next event of the client; answer one that is wrong."""
        text = await self._socket.receive()
        await self._socket.pace()
        try:
            await self._handle(openai.decode(text))
        except (ApiError, ProtocolError) as failure:
            await self._tell(openai.error_event(api_error(failure).error, openai.event_id_of(text)))

    async def _handle(self, event: openai.ClientEvent) -> None:
        if self._is_closing:
            raise ApiError(409, "session_closed", "expected nothing behind session.close: open a new session")
        match event:
            case openai.SessionUpdate(session=options):
                await self._update(options)
            case openai.InputTextAppend(text=text):
                await self._append(text)
            case openai.InputAudioAppend():
                raise openai.refuse_audio()
            case openai.SessionClose():
                self._is_closing = True
                if self._is_open:
                    await self._write(check(SessionClose()))

    async def _update(self, options: openai.SessionOptions) -> None:
        state = msgspec.structs.replace(self._state)
        state.update(options)
        check(SessionCreate(session=state.session))
        self._state = state
        if self._is_open:  # the worker's answer tells the client
            patch = SessionPatch(target_language=state.target_language, source_language=state.source_language)
            await self._write(check(SessionUpdate(session=patch)))
        else:
            await self._tell_session("session.updated")

    async def _append(self, text: str) -> None:
        if self._state.target_language is None:
            message = "expected a target language before the first words: send session.update with it"
            raise ApiError(400, "invalid_value", message, param="session.audio.output.language")
        data = [check(InputTextAppend(text=part)) for part in split_text(text)]
        if not self._is_open:
            create = check(SessionCreate(session=self._state.session))
            await self._gateway.open(self._caller, self._session_id, create)
            self._is_open = True
        await self._write(*data)
        if self._state.has_transcript:
            await self._tell(
                {"type": "session.input_transcript.delta", "delta": text, "elapsed_ms": self._elapsed_ms()}
            )

    async def _write(self, *data: bytes) -> None:
        await self._gateway.writer.send(self._session_id, data)
        self._gateway.figures.input_events += len(data)

    async def _translate(self, data: bytes) -> None:
        event = decode_server(data)
        if isinstance(event, SessionUpdated):
            await self._tell_session("session.updated")
        elif (told := openai.to_openai(event)) is not None:
            await self._tell(told)

    async def _tell_session(self, kind: str) -> None:
        await self._tell({"type": kind, "session": self._state.described(self._session_id, self._expires_at_s)})

    async def _tell(self, content: openai.Json) -> None:
        self._num_events += 1
        await self._socket.send_json({**content, "event_id": f"event_{self._session_id[-8:]}_{self._num_events}"})

    def _elapsed_ms(self) -> int:
        return int((time.monotonic() - self._start_s) * 1000)

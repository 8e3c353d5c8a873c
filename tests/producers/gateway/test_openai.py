"""OpenAI's own client, of PyPI's `openai`, pointed at the gateway by `base_url`."""

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI
from websockets.exceptions import InvalidStatus

from producers.gateway import openai_events
from producers.gateway.auth import SCOPES, Caller
from producers.gateway.errors import ApiError
from protocol import Error, ProtocolError, Session, SessionCreated
from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving, bearer, hashed, ready
from tests.producers.gateway.test_auth import error_of
from tests.producers.gateway.test_realtime import hear_close
from tests.producers.streams import delta

FRENCH: Final[Any] = {"type": "session.update", "session": {"audio": {"output": {"language": "fr"}}}}
WORDS: Final = ("My sister works", "in a hospital.", "We are at home.")
TRANSLATION: Final = "Ma sœur travaille dans un hôpital. Nous sommes chez nous."


def words(text: str) -> Any:
    """Return our event, which OpenAI's types do not know."""
    return {"type": "session.input_text.append", "text": text}


async def talk(client: AsyncOpenAI) -> list[Any]:
    """Hold a session, and return its events."""
    heard = []
    async with client.realtime.translations.connect(model="decalage") as connection:
        await connection.session.update(session=FRENCH["session"])
        for text in WORDS:
            await connection.send(words(text))
        await connection.session.close()
        async with asyncio.timeout(DEADLINE_S):
            async for event in connection:
                heard.append(event)
    return heard


def said(heard: list[Any]) -> str:
    """Return the translation, joined as OpenAI's documentation asks for."""
    return "".join(event.delta for event in heard if event.type == "session.output_transcript.delta").strip()


async def test_the_async_client(served: Served) -> None:
    """A session from created to closed, with typed events."""
    async with AsyncOpenAI(base_url=f"{served.url}v1", api_key="any") as client:
        heard = await talk(client)
    created, updated, *_, closed = heard
    assert (created.type, updated.type, closed.type) == ("session.created", "session.updated", "session.closed")
    assert (created.session.type, created.session.model) == ("translation", "decalage")
    assert created.session.id.startswith("sess_")
    assert updated.session.audio.output.language == "fr"
    assert said(heard) == TRANSLATION
    assert len({event.event_id for event in heard}) == len(heard)
    deltas = [event for event in heard if event.type == "session.output_transcript.delta"]
    assert [each.elapsed_ms for each in deltas] == sorted(each.elapsed_ms for each in deltas)


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # openai's own
async def test_the_sync_client(served: Served) -> None:
    """The same without an event loop."""

    def session() -> list[Any]:
        with OpenAI(base_url=f"{served.url}v1", api_key="any") as client:
            heard = []
            with client.realtime.translations.connect(model="decalage") as connection:
                connection.send(FRENCH)
                for text in WORDS:
                    connection.send(words(text))
                connection.send({"type": "session.close"})
                for event in connection:
                    heard.append(event)
            return heard

    assert said(await asyncio.to_thread(session)) == TRANSLATION


async def test_a_client_secret(serving: Serving, served: Served) -> None:
    """A browser's key opens sessions of its maker, with the maker's options; it makes no other key."""
    keys = hashed(maker=Caller("team-a", SCOPES))
    async with serving(keys=keys) as locked:
        await ready(locked)
        async with AsyncOpenAI(base_url=f"{locked.url}v1", api_key="maker") as client:
            secret = await client.realtime.translations.client_secrets.create(
                session={"model": "decalage", "audio": {"output": {"language": "fr"}}},
                expires_after={"anchor": "created_at", "seconds": 60},
            )
        assert secret.session.audio.output is not None
        assert (secret.session.model, secret.session.audio.output.language) == ("decalage", "fr")
        assert secret.value.startswith("ek_")
        for path, body in (
            ("/v1/realtime/translations/client_secrets", {"session": {"model": "m"}}),
            ("/v1/sessions/sess_0/links", {}),
        ):
            answer = await locked.http.post(path, json=body, headers=bearer(secret.value))
            assert error_of(answer) == (403, "missing_scope")
        offered = ["realtime", f"openai-insecure-api-key.{secret.value}"]
        async with locked.websocket("/v1/realtime/translations", subprotocols=offered) as socket:
            assert socket.subprotocol == "realtime"
            await socket.send(json.dumps(words("We are at home.")))
            await socket.send(json.dumps({"type": "session.close"}))
            async with asyncio.timeout(DEADLINE_S):
                heard = [json.loads(message) async for message in socket]
        assert "".join(event.get("delta", "") for event in heard).strip() == "Nous sommes chez nous."
        with pytest.raises(InvalidStatus) as refused:
            await locked.websocket("/v1/realtime/translations?model=m").__aenter__()
        assert refused.value.response.status_code == 401


async def test_the_transcript_of_the_source(served: Served) -> None:
    """Where it is asked for, the words that went in come back."""
    async with served.websocket("/v1/realtime/translations?model=m") as socket:
        options = {"input": {"transcription": {"model": "any"}}, "output": {"language": "de"}}
        await socket.send(json.dumps({"type": "session.update", "session": {"audio": options}}))
        await socket.send(json.dumps(words("We are at home.")))
        await socket.send(json.dumps({"type": "session.close"}))
        async with asyncio.timeout(DEADLINE_S):
            heard = [json.loads(message) async for message in socket]
    source = [event["delta"] for event in heard if event["type"] == "session.input_transcript.delta"]
    assert source == ["We are at home."]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type": "session.input_audio_buffer.append", "audio": "AAAA", "event_id": "e1"}', "invalid_event"),
        ('{"type": "session.input_text.append", "text": "early", "event_id": "e1"}', "invalid_value"),
        ('{"type": "session.input_text.append", "event_id": "e1"}', "invalid_event"),
        ('{"type": "response.create", "event_id": "e1"}', "unknown_event_type"),
        (
            '{"type": "session.update", "session": {"audio": {"output": {"language": 7}}}, "event_id": "e1"}',
            "invalid_event",
        ),
    ],
)
async def test_what_is_refused(served: Served, message: str, code: str) -> None:
    """The error names the client's event, and the session goes on."""
    async with served.websocket("/v1/realtime/translations?model=m") as socket:
        await socket.recv()
        for sent in (message, "{", json.dumps({"type": "session.close"})):
            await socket.send(sent)
        async with asyncio.timeout(DEADLINE_S):
            first, second, closed = [json.loads(message) async for message in socket]
    assert (first["type"], first["error"]["code"], first["error"]["event_id"]) == ("error", code, "e1")
    assert second["error"]["code"] == "malformed_event"
    assert closed["type"] == "session.closed"


async def test_a_language_that_no_worker_has(served: Served) -> None:
    """The worker's reason comes as an error, and the connection ends."""
    async with served.websocket("/v1/realtime/translations?model=m") as socket:
        await socket.recv()
        await socket.send(json.dumps(FRENCH).replace("fr", "tlh"))
        await socket.send(json.dumps(words("Hello")))
        async with asyncio.timeout(DEADLINE_S):
            heard = [json.loads(message) async for message in socket]
    reasons = [event["error"]["code"] for event in heard if event["type"] == "error"]
    assert reasons[0] == "unsupported_language"


async def test_a_client_that_says_nothing_is_closed(serving: Serving, served: Served) -> None:
    """A connection without words does not stay."""
    async with serving(translation_timeout_s=0.05) as strict:
        await ready(strict)
        async with strict.websocket("/v1/realtime/translations?model=m") as socket:
            await hear_close(socket, 4000)


async def test_a_model_is_named(served: Served) -> None:
    """Without a name the handshake is refused."""
    with pytest.raises(InvalidStatus) as refused:
        await served.websocket("/v1/realtime/translations").__aenter__()
    assert refused.value.response.status_code == 400


_MESSAGES: Final = st.one_of(
    st.text(),
    st.builds(
        '{{"type": "{}", "text": {}, "audio": {}'.format,
        st.sampled_from(["session.update", "session.input_text.append", "session.close", "no.such"]),
        *[st.sampled_from(['"a"}', '"\\\\ud800"}', "1}", "[", '"'])] * 2,
    ),
)


@given(text=_MESSAGES)
def test_any_message_is_an_event_or_an_error(text: str) -> None:
    """None of them ends the connection as a bug of the gateway."""
    with suppress(ApiError, ProtocolError):
        openai_events.decode(text)


def test_events_of_the_wire_as_openai_has_them() -> None:
    """Words are deltas, errors keep their code, and what OpenAI does not have is left out."""
    assert openai_events.to_openai(delta(3, " mot")) == {
        "type": "session.output_transcript.delta",
        "delta": " mot",
        "elapsed_ms": 3,
    }
    refused = openai_events.to_openai(Error(seq=1, code="worker_full", message="full"))
    assert refused is not None
    assert refused["error"]["code"] == "worker_full"
    assert openai_events.to_openai(SessionCreated(seq=1, version=1, session=Session(), model="m")) is None

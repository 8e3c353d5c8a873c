"""`WS /v1/realtime`, before a real Redis and a real worker."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving
from tests.producers.gateway.test_sessions import TEXT, TRANSLATION, opened, said, text_of

CREATE: Any = {"type": "session.create", "session": {"target_language": "fr"}}
INPUT: Any = [
    {"type": "input_text.append", "text": TEXT},
    {"type": "input_text.finalize"},
    {"type": "session.close"},
]


async def send(socket: ClientConnection, *events: Any) -> None:
    """Send events as JSON."""
    for event in events:
        await socket.send(json.dumps(event))


async def hear(socket: ClientConnection, until: str = "") -> list[Any]:
    """Return the messages up to one of this type, or up to the end of the connection."""
    heard: list[Any] = []
    async with asyncio.timeout(DEADLINE_S):
        async for message in socket:
            heard.append(json.loads(message))
            if heard[-1]["type"] == until:
                return heard
    return heard


async def attached(socket: ClientConnection) -> str:
    """Return the session of the connection, which the first message tells."""
    async with asyncio.timeout(DEADLINE_S):
        message = json.loads(await socket.recv())
    assert message["type"] == "gateway.attached"
    return str(message["session"])


async def test_a_session(served: Served) -> None:
    """The wire's events go up and come down; the connection ends with the session."""
    async with served.websocket("/v1/realtime") as socket:
        session_id = await attached(socket)
        assert session_id.startswith("sess_")
        await send(socket, CREATE, *INPUT)
        heard = await hear(socket)
    assert text_of(heard) == TRANSLATION
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert (heard[0]["type"], heard[-1]["type"]) == ("session.created", "session.closed")
    assert socket.close_code == 1000


async def test_resuming(served: Served, serving: Serving) -> None:
    """A client that comes back behind its last event gets the rest, on any gateway, and may go on speaking."""
    words = TEXT.split()
    async with served.websocket("/v1/realtime") as socket:
        session_id = await attached(socket)
        await send(socket, CREATE, {"type": "input_text.append", "seq": 1, "text": " ".join(words[:4])})
        heard = await hear(socket, "output_text.delta")
    async with serving() as other:
        path = f"/v1/realtime?session={session_id}&after={heard[-1]['seq']}"
        async with other.websocket(path) as socket:
            assert await attached(socket) == session_id
            again = {"type": "input_text.append", "seq": 1, "text": " ".join(words[:4])}
            rest = {"type": "input_text.append", "seq": 2, "text": " ".join(words[4:])}
            await send(socket, again, rest, {"type": "session.close", "seq": 3})
            heard += await hear(socket)
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert text_of(heard) == TRANSLATION


async def test_http_and_websocket_share_a_session(served: Served) -> None:
    """One source by POST, a listener by WebSocket."""
    session_id = (await opened(served))["id"]
    async with served.websocket(f"/v1/realtime?session={session_id}") as socket:
        await attached(socket)
        await said(served, session_id)
        assert text_of(await hear(socket)) == TRANSLATION


async def test_a_client_that_numbers_learns_what_redis_has(served: Served) -> None:
    """Every 64th number is told, so that nobody has to keep more than that for ever."""
    words = [{"type": "input_text.append", "seq": seq, "text": " "} for seq in range(2, 130)]
    async with served.websocket("/v1/realtime") as socket:
        await attached(socket)
        await send(socket, {**CREATE, "seq": 1}, *words, {"type": "session.close", "seq": 130})
        heard = await hear(socket)
    accepted = [each["input_seq"] for each in heard if each["type"] == "gateway.accepted"]
    assert accepted == [64, 128]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "malformed_event"),
        ("[]", "invalid_event"),
        ('{"type": "no.such"}', "unknown_event_type"),
        ('{"type": "input_text.append"}', "invalid_event"),
        ('{"type": "input_text.append", "text": 1}', "invalid_event"),
        ('{"type": "input_text.append", "text": "early"}', "session_not_created"),
        ('{"type": "session.create", "session": {"policy": {"type": "wait-k", "k": 0}}}', "invalid_event"),
        ('{"type": "session.create", "version": 99}', "unsupported_version"),
    ],
)
async def test_a_wrong_message_is_answered_and_forgotten(served: Served, message: str, code: str) -> None:
    """It does not reach the session, which works as if it had not been sent."""
    async with served.websocket("/v1/realtime") as socket:
        await attached(socket)
        await socket.send(message)
        await send(socket, CREATE, CREATE, *INPUT)
        heard = await hear(socket)
    refusals = [each["error"] for each in heard if "error" in each]
    assert [error["code"] for error in refusals] == [code, "session_exists"]
    assert set(refusals[0]) == {"type", "code", "message", "param"}
    assert text_of(heard) == TRANSLATION


async def test_a_binary_frame_closes(served: Served) -> None:
    """The code says why."""
    async with served.websocket("/v1/realtime") as socket:
        await attached(socket)
        await socket.send(b"\x00")
        await hear_close(socket, 1003)


async def test_a_frame_above_the_limit_closes(serving: Serving, served: Served) -> None:
    """It is not read."""
    async with serving(max_frame_bytes=1_000) as strict, strict.websocket("/v1/realtime") as socket:
        await attached(socket)
        await socket.send("x" * 2_000)
        await hear_close(socket, 1009)


async def test_text_that_is_not_utf8_closes(served: Served) -> None:
    """As the WebSocket standard has it."""
    async with served.websocket("/v1/realtime") as socket:
        await attached(socket)
        await socket.send(b"\xff\xfe", text=True)
        await hear_close(socket, 1007)


async def test_a_client_that_says_nothing_is_closed(serving: Serving, served: Served) -> None:
    """A connection without a session does not stay."""
    async with serving(create_timeout_s=0.05) as strict, strict.websocket("/v1/realtime") as socket:
        await attached(socket)
        await hear_close(socket, 4000)


async def test_heartbeats_in_silence(serving: Serving, served: Served) -> None:
    """They tell the last number, so that a client sees that it has all."""
    async with serving(heartbeat_s=0.05) as strict, strict.websocket("/v1/realtime") as socket:
        await attached(socket)
        await send(socket, CREATE)
        heard = await hear(socket, "gateway.heartbeat")
        while heard[-1]["last_seq"] == 0:
            heard += await hear(socket, "gateway.heartbeat")
    assert heard[-1] == {"type": "gateway.heartbeat", "last_seq": 1}


@pytest.mark.parametrize(
    ("path", "status"),
    [("?session=sess_0", 404), ("?session=%2e%2e%2f", 404), ("?session=sess_0&after=-1", 400), ("?after=x", 400)],
)
async def test_refused_before_the_handshake(served: Served, path: str, status: int) -> None:
    """The answer is HTTP, with the body of every error."""
    with pytest.raises(InvalidStatus) as refused:
        await served.websocket(f"/v1/realtime{path}").__aenter__()
    assert refused.value.response.status_code == status
    assert set(json.loads(refused.value.response.body or b"")["error"]) == {"type", "code", "message", "param"}


async def hear_close(socket: ClientConnection, code: int) -> None:
    """Check that the gateway closes the connection with this code."""
    async with asyncio.timeout(DEADLINE_S):
        await socket.wait_closed()
    assert socket.close_code == code

"""Listeners that take nothing, and a Redis that goes away under a speaker: closed with a code, never a hang."""

import asyncio
import base64
import json
import time
from typing import Final

import pytest
from redis.asyncio import Redis

from protocol import ServerEvent, Session, SessionCreate, SessionCreated, encode, source_key
from protocol.keys import EVENT_FIELD
from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving, ready
from tests.producers.gateway.test_realtime import CREATE, attached, hear_close, send
from tests.producers.proxy import Proxy
from tests.producers.streams import delta, publish
from tests.worker.app.conftest import until

NUM_WORDS: Final = 3_000
WORD: Final = " " + "x" * 5_000
"""More than what the kernel takes for a client that reads nothing."""


@pytest.mark.parametrize("way", ["sse", "websocket"])
async def test_a_listener_that_takes_nothing_is_cut_off(redis_client: Redis, serving: Serving, way: str) -> None:
    """Its connection ends, it costs no memory, and it can resume; another listener is not held up."""
    created = SessionCreated(seq=1, version=1, session=Session(), model="m")
    events: list[ServerEvent] = [created, *(delta(2 + index, WORD) for index in range(NUM_WORDS))]
    await redis_client.xadd(source_key("talk"), {EVENT_FIELD: encode(SessionCreate())})
    await redis_client.expire(source_key("talk"), 100)
    await publish(redis_client, "talk", events)
    async with serving(send_timeout_s=0.2) as served:
        reader, writer = await _stuck(served, way)
        await until(lambda: served.gateway.figures.slow_listeners == 1)
        await until(lambda: served.gateway.connections.num_open == 0)
        async with asyncio.timeout(DEADLINE_S):
            got = await _rest(reader)
        assert len(got) < NUM_WORDS * len(WORD)
        writer.close()
        path = f"/v1/sessions/talk/events?after={NUM_WORDS}"
        async with served.http.stream("GET", path) as response, asyncio.timeout(DEADLINE_S):
            async for line in response.aiter_lines():
                if line == f"id: {NUM_WORDS + 1}":
                    return
    raise AssertionError("the stream ended before its last event")


async def _stuck(served: Served, way: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for the events and read none of them."""
    host, port = served.url.removeprefix("http://").strip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1_000)
    if way == "sse":
        head = "GET /v1/sessions/talk/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    else:
        key = base64.b64encode(b"x" * 16).decode()
        head = (
            "GET /v1/realtime?session=talk HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    writer.write(head.encode())
    return reader, writer


async def _rest(reader: asyncio.StreamReader) -> bytes:
    got = bytearray()
    try:
        while chunk := await reader.read(65_536):
            got += chunk
    except ConnectionResetError:
        pass
    return bytes(got)


async def test_redis_goes_away_under_a_speaker(redis_url: str, serving: Serving, served: Served) -> None:
    """The close code says that it may be tried again, and a numbered event that is sent again counts once."""
    async with Proxy(redis_url) as proxy, serving(redis=proxy.url) as behind:
        await ready(behind)
        async with behind.websocket("/v1/realtime") as socket:
            session_id = await attached(socket)
            await send(socket, CREATE)
            await socket.recv()
            proxy.reply_to_drop = b"We are"  # Redis has the words, and nobody learns it
            append = {"type": "input_text.append", "seq": 1, "text": "We are at home."}
            await send(socket, append)
            await hear_close(socket, 1013)
        async with behind.websocket(f"/v1/realtime?session={session_id}&after=1") as socket:
            await attached(socket)
            await send(socket, append, {"type": "session.close", "seq": 2})
            async with asyncio.timeout(DEADLINE_S):
                heard = [json.loads(message) async for message in socket]
    assert [event["text"] for event in heard if event["type"] == "segment.done"] == ["Nous sommes chez nous."]
    assert [event["type"] for event in heard if event["type"] == "error"] == []


async def test_too_many_messages(serving: Serving, served: Served) -> None:
    """A client is read no faster than allowed, and loses nothing by it."""
    async with serving(burst_messages=2, max_messages_per_s=10) as strict:
        await ready(strict)
        async with strict.websocket("/v1/realtime") as socket:
            await attached(socket)
            start_s = time.monotonic()
            words = [{"type": "input_text.append", "text": word} for word in ["We", "are", "at", "home."]]
            await send(socket, CREATE, *words, {"type": "session.close"})
            async with asyncio.timeout(DEADLINE_S):
                heard = [json.loads(message) async for message in socket]
    assert [event["text"] for event in heard if event["type"] == "segment.done"] == ["Nous sommes chez nous."]
    assert time.monotonic() - start_s >= 0.35  # six messages, of which two at once

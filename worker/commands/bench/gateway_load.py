"""Speakers by WebSocket and listeners by server-sent events. A word is the microsecond at which it was sent."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from protocol import InputTextAppend, InputTextFinalize, SessionCreate, encode
from worker.commands.bench.transport_load import SEGMENT_WORDS, WARM_UP_S, Load, now_us
from worker.commands.bench.transport_null import SESSION

_OPEN_AT_ONCE: Final = 50
_DEADLINE_S: Final = 60.0


class _Word(msgspec.Struct):
    type: str
    word: str = ""


_WORD: Final = msgspec.json.Decoder(_Word)


class Speakers:
    """A WebSocket with an open session for each session of the load; a context manager."""

    def __init__(self, url: str, load: Load) -> None:
        self._url: Final = url.replace("http", "ws", 1) + "v1/realtime"
        self._load: Final = load
        self._stack: Final = AsyncExitStack()
        self._sockets: list[ClientConnection] = []
        self.session_ids: list[str] = []

    async def __aenter__(self) -> Self:
        for start in range(0, self._load.sessions, _OPEN_AT_ONCE):
            number = min(_OPEN_AT_ONCE, self._load.sessions - start)
            opened = await asyncio.gather(*(self._open() for _ in range(number)))
            for socket, session_id in opened:
                self._stack.push_async_callback(socket.close)
                self._sockets.append(socket)
                self.session_ids.append(session_id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _open(self) -> tuple[ClientConnection, str]:
        socket = await connect(self._url, compression=None, ping_interval=None)
        async with asyncio.timeout(_DEADLINE_S):
            session_id = str(json.loads(await socket.recv())["session"])
            await socket.send(encode(SessionCreate(session=SESSION)).decode())
            while json.loads(await socket.recv())["type"] != "session.created":
                pass
        return socket, session_id

    async def delays_ms(self, seconds: float) -> list[float]:
        """Speak for these seconds; return the delay of each word, without those of the first second."""
        num_words = max(1, round(seconds * self._load.words_per_s))
        start_us = now_us()
        hearing = [asyncio.create_task(_hear(socket, num_words)) for socket in self._sockets]
        await self._say(seconds)
        async with asyncio.timeout(_DEADLINE_S):
            heard = await asyncio.gather(*hearing)
        after_us = start_us + min(WARM_UP_S, seconds / 2) * 1e6
        return [(at_us - sent_us) / 1000 for words in heard for sent_us, at_us in words if sent_us >= after_us]

    async def _say(self, seconds: float) -> None:
        start_s = time.monotonic()
        for due_s, session, number in self._load.words(seconds):
            if (early_s := start_s + due_s - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            await self._sockets[session].send(encode(InputTextAppend(text=str(now_us()))).decode())
            if number % SEGMENT_WORDS == SEGMENT_WORDS - 1:
                await self._sockets[session].send(encode(InputTextFinalize()).decode())


async def _hear(socket: ClientConnection, num_words: int) -> list[tuple[int, int]]:
    words: list[tuple[int, int]] = []
    while len(words) < num_words:
        message: Any = await socket.recv(decode=False)
        event = _WORD.decode(message)
        if event.type == "output_text.delta":
            words.append((int(event.word), now_us()))
    return words


class Listeners:
    """Idle listeners by server-sent events, each behind the newest event; a context manager."""

    def __init__(self, url: str, session_ids: Sequence[str], number: int) -> None:
        parts = urlsplit(url)
        self._place: Final = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._session_ids: Final = session_ids
        self._number: Final = number
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        for start in range(0, self._number, _OPEN_AT_ONCE):
            indices = range(start, min(start + _OPEN_AT_ONCE, self._number))
            self._writers += await asyncio.gather(*(self._open(index) for index in indices))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers:
            writer.close()

    async def _open(self, index: int) -> asyncio.StreamWriter:
        session_id = self._session_ids[index % len(self._session_ids)]
        reader, writer = await asyncio.open_connection(*self._place)
        path = f"/v1/sessions/{session_id}/events?after=100000"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(_DEADLINE_S):
            await reader.readuntil(b"retry:")
        return writer

"""The delay of words that are sent at a steady pace into many streams and read back from others (or the same ones).

A word is the microsecond at which it was sent, so its reader knows its delay.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import msgspec
from redis.asyncio import Redis

from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    OutputTextDelta,
    SessionCreate,
    bell_key,
    decode_server,
    encode,
    shard_of,
    source_key,
    target_key,
)
from protocol.keys import BELL_FIELD, EVENT_FIELD
from worker.commands.bench.transport_null import SESSION

WATCHED: Final = 64
"""The number of sessions read back; a reader of all of them would be measured instead of the worker."""

SEGMENT_WORDS: Final = 20
_BELL_ENTRIES: Final = 10_000
WARM_UP_S: Final = 1.0


class Load(msgspec.Struct, frozen=True):
    """A number of sessions and the pace of each."""

    sessions: int
    words_per_s: float  # of one session

    def words(self, seconds: float) -> Iterator[tuple[float, int, int]]:
        """Yield the seconds from the start, the session and the number of each word (from 0), the earliest first."""
        for number in range(max(1, round(seconds * self.words_per_s))):
            for session in range(self.sessions):
                yield (number + session / self.sessions) / self.words_per_s, session, number


class Way(Protocol):
    """The streams that words are written to and read from."""

    def say(self, pipe: Any, session: int, number: int) -> None:
        """Add the session's word of that number, which is the current time, to the pipeline."""

    def key(self, session: int) -> str:
        """Return the stream that the session's words are read from."""

    def heard(self, data: bytes) -> int | None:
        """Return the time of a word; None for another entry."""


class Plain:
    """The baseline: words are read from the stream that they were written to."""

    def say(self, pipe: Any, session: int, number: int) -> None:
        pipe.xadd(self.key(session), {EVENT_FIELD: now_us()})

    def key(self, session: int) -> str:
        return f"plain:{session}"

    def heard(self, data: bytes) -> int | None:
        return int(data)


class Served:
    """The way through a worker: words are written to a source stream, with a bell, and read from its target stream."""

    def say(self, pipe: Any, session: int, number: int) -> None:
        self._put(pipe, session, InputTextAppend(text=str(now_us())))
        if number % SEGMENT_WORDS == SEGMENT_WORDS - 1:
            self._put(pipe, session, InputTextFinalize())
        self._ring(pipe, session)

    def create(self, pipe: Any, session: int) -> None:
        """Add the creation of the session to the pipeline."""
        self._put(pipe, session, SessionCreate(session=SESSION))
        self._ring(pipe, session)

    def key(self, session: int) -> str:
        return target_key(_name(session))

    def heard(self, data: bytes) -> int | None:
        event = decode_server(data)
        return int(event.word) if isinstance(event, OutputTextDelta) else None

    def _put(self, pipe: Any, session: int, event: ClientEvent) -> None:
        pipe.xadd(source_key(_name(session)), {EVENT_FIELD: encode(event)})

    def _ring(self, pipe: Any, session: int) -> None:
        name = _name(session)
        pipe.xadd(bell_key(shard_of(name)), {BELL_FIELD: name}, maxlen=_BELL_ENTRIES, approximate=True)


def _name(session: int) -> str:
    return f"bench-{session}"


def now_us() -> int:
    """Return the time of a monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """Return a client that closes its connections at the end of the block."""
    client = Redis.from_url(url, protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


async def delays_ms(url: str, load: Load, seconds: float, way: Way) -> list[float]:
    """Measure the delay of each word of the watched sessions, without those of the first second."""
    step = max(1, load.sessions // WATCHED)
    watched = range(0, load.sessions, step)
    num_expected = len(watched) * max(1, round(seconds * load.words_per_s))
    start_us = now_us()
    async with connected(url) as writer, connected(url) as reader:
        saying = asyncio.create_task(_say(writer, load, seconds, way))
        words = await _hear(reader, {way.key(session): "0-0" for session in watched}, num_expected, way)
        await saying
    after_us = start_us + min(WARM_UP_S, seconds / 2) * 1e6
    return [(heard_us - sent_us) / 1000 for sent_us, heard_us in words if sent_us >= after_us]


async def _say(writer: Redis, load: Load, seconds: float, way: Way) -> None:
    start_s = time.monotonic()
    pipe = writer.pipeline(transaction=False)
    for due_s, session, number in load.words(seconds):
        if (early_s := start_s + due_s - time.monotonic()) > 0:
            await pipe.execute()
            await asyncio.sleep(early_s)
        way.say(pipe, session, number)
    await pipe.execute()


async def _hear(reader: Redis, last: dict[str, str], num_expected: int, way: Way) -> list[tuple[int, int]]:
    words: list[tuple[int, int]] = []
    while len(words) < num_expected:
        answer: Any = await reader.xread(dict(last), block=1000)  # type: ignore[arg-type]
        heard_us = now_us()
        for key, entries in answer:
            last[key.decode()] = entries[-1][0].decode()
            for _, fields in entries:
                if (sent_us := way.heard(fields[EVENT_FIELD.encode()])) is not None:
                    words.append((sent_us, heard_us))
    return words

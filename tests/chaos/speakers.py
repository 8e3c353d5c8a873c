"""Producers of each manner: they speak at a pace, retry while Redis is away, and never lose a word."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from producers import BrokerRefused, BrokerUnreachable, Publisher
from producers.connection import open_writer
from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    SessionClose,
    SessionCreate,
    encode,
    source_key,
)
from protocol.keys import ABANDONED_TTL_S, EVENT_FIELD
from tests.chaos.pace import Pace
from tests.chaos.talks import Talk
from worker.io.client import GONE

_PAUSE_S: Final = 0.1  # before a retry


class Speaker:
    """The speaker of one talk. `said_s` holds when each word was in Redis."""

    def __init__(self, talk: Talk, url: str, pace: Pace) -> None:
        self.talk = talk
        self.said_s: list[float] = []
        self._url = url
        self._pace = pace
        self._dice = random.Random(talk.session_id)

    async def run(self) -> None:
        """Write the whole talk to Redis."""
        if self.talk.manner in ("library", "proxied"):
            await self._publish()
        else:
            await self._append(is_double=self.talk.manner == "double")

    async def _wait(self, event: ClientEvent) -> None:
        if isinstance(event, InputTextAppend):
            await self._pace.wait(self._dice, self.talk.num_words - len(self.said_s))

    def _note(self, event: ClientEvent) -> None:
        if isinstance(event, InputTextAppend):
            self.said_s.append(time.monotonic())

    async def _publish(self) -> None:
        async with Publisher(self._url, self.talk.session_id, self.talk.session) as publisher:
            for event in self.talk.events():
                await self._wait(event)
                await self._insist(publisher, event)
                self._note(event)

    async def _insist(self, publisher: Publisher, event: ClientEvent) -> None:
        call: Callable[[], Awaitable[None]] = lambda: _call(publisher, event)  # noqa: E731
        while True:
            try:
                return await call()
            except (BrokerUnreachable, BrokerRefused):
                await asyncio.sleep(_PAUSE_S)
                if publisher.num_unsent_events:  # the publisher keeps the event, so only flush
                    call = publisher.flush

    async def _append(self, *, is_double: bool) -> None:
        # A raw producer: its own entry ids, or its numbers, make a repetition harmless.
        async with open_writer(self._url).client as client:
            old: list[bytes] = []
            for number, event in enumerate(self.talk.events(), 1):
                await self._wait(event)
                if not is_double:
                    await self._put(client, encode(event), f"{number}-0")
                else:
                    old.append(encode(_numbered(event, number)))
                    await self._put(client, old[-1], "*")
                    await self._put(client, self._dice.choice(old[-4:]), "*")
                self._note(event)

    async def _put(self, client: Redis, data: bytes, entry_id: str) -> None:
        key = source_key(self.talk.session_id)
        while True:
            try:
                await client.xadd(key, {EVENT_FIELD: data}, id=entry_id)
                await client.expire(key, ABANDONED_TTL_S)
                return
            except ResponseError as error:
                if "equal or smaller" in str(error):  # the entry had arrived, only the reply was lost
                    return
                await asyncio.sleep(_PAUSE_S)  # Redis is loading its file
            except GONE:
                await asyncio.sleep(_PAUSE_S)


async def _call(publisher: Publisher, event: ClientEvent) -> None:
    match event:
        case SessionCreate():
            await publisher.create()
        case InputTextAppend(text=text):
            await publisher.append(text)
        case InputTextFinalize():
            await publisher.finalize()
        case SessionClose():
            await publisher.close()


def _numbered(event: ClientEvent, number: int) -> ClientEvent:
    return msgspec.structs.replace(event, seq=number)

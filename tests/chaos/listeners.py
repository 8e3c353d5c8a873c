"""Subscribers that record when they heard each event, and the final streams."""

import asyncio
import json
import time
from typing import Any

from redis.asyncio import Redis

from producers import ProducerError, Subscriber
from protocol import ServerEvent, target_key
from protocol.keys import EVENT_FIELD
from tests.chaos.check import Entry


class Listener:
    """A subscriber that follows one session to its end."""

    def __init__(self, url: str, session_id: str) -> None:
        self.session_id = session_id
        self.heard: list[tuple[float, ServerEvent]] = []
        self.failure: str | None = None
        self._url = url

    async def run(self) -> None:
        """Follow the session until it is closed; set `failure` and stop at an error that must never occur."""
        while True:
            try:
                async with Subscriber(self._url, self.session_id, after=self.last_seq) as events:
                    async for event in events:
                        self.heard.append((time.monotonic(), event))
                return
            except ProducerError as error:
                if type(error).__name__ == "BrokerUnreachable":
                    await asyncio.sleep(0.1)
                    continue
                self.failure = str(error)
                return

    @property
    def last_seq(self) -> int:
        """The number of the last event heard."""
        return self.heard[-1][1].seq if self.heard else 0


async def read_target(client: Redis, session_id: str) -> list[Entry]:
    """Read the whole target stream of a session."""
    entries: Any = await client.xrange(target_key(session_id))
    return [(entry_id.decode(), json.loads(fields[EVENT_FIELD.encode()])) for entry_id, fields in entries]

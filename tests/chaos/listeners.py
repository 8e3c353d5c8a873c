"""Subscribers that note when they heard what, and the streams as they stand in the end."""

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
    """Follows one session to its end."""

    def __init__(self, url: str, session_id: str) -> None:
        self.session_id = session_id
        self.heard: list[tuple[float, ServerEvent]] = []
        self.failure: str | None = None
        self._url = url

    async def run(self) -> None:
        """The session is closed, or this subscriber has met what it must never meet (`failure`)."""
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
    """The whole target stream of a session."""
    entries: Any = await client.xrange(target_key(session_id))
    return [(entry_id.decode(), json.loads(fields[EVENT_FIELD.encode()])) for entry_id, fields in entries]

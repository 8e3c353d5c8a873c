"""Read server-sent events as a browser's EventSource does."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from msgspec import Struct


class Frame(Struct):
    """One server-sent event."""

    event: str
    data: Any
    id: int | None


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """Yield the frames of a stream, without comments and `retry`."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Frame(fields.get("event", "message"), json.loads(fields["data"]), _number(fields.get("id")))
            fields = {}
        else:
            fields = {}


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


async def listened(client: httpx.AsyncClient, path: str, **options: Any) -> list[Frame]:
    """Return all frames of a stream up to its end, but heartbeats."""
    async with client.stream("GET", path, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        return [frame async for frame in frames(response) if frame.event != "heartbeat"]

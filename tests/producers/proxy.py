"""A TCP proxy in front of Redis that drops replies, holds requests up, cuts connections, and goes down and up."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """A proxy at `url` for the server at `upstream_url`; a context manager."""

    def __init__(self, upstream_url: str) -> None:
        self.lead_to(upstream_url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.num_replies_to_drop = 0
        """Replies to drop, each with its connection, after the server has executed the request."""
        self.reply_to_drop: bytes | None = None
        """Content of the next request whose reply to drop, with its connection."""
        self.num_connections = 0
        self.num_held = 0
        """Requests held up so far."""
        self._held: bytes | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"redis://127.0.0.1:{self._port}/0"

    async def up(self) -> None:
        """Accept connections, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self, containing: bytes = b"") -> None:
        """Hold up requests that contain this, and all that follow them, until `release`."""
        self._held = containing
        self._flows.clear()

    def release(self) -> None:
        """Let the held requests pass."""
        self._held = None
        self._flows.set()

    def lead_to(self, upstream_url: str) -> None:
        """Lead new connections to another server; open ones stay where they are."""
        parts = urlsplit(upstream_url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)

    def cut(self) -> None:
        """Close all connections; accept new ones."""
        for writer in tuple(self._writers):
            writer.close()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            from_server, to_server = await asyncio.open_connection(*self._upstream)
        except OSError:  # the server is away
            writer.close()
            return
        self._writers |= {writer, to_server}
        doomed = asyncio.Event()
        pumps = {
            asyncio.create_task(self._pump_requests(reader, to_server, doomed)),
            asyncio.create_task(self._pump_replies(from_server, writer, doomed)),
        }
        self._tasks |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, to_server):
            end.close()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._tasks -= pumps
        self._writers -= {writer, to_server}

    async def _pump_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self.reply_to_drop is not None and self.reply_to_drop in data:
                    self.reply_to_drop = None
                    doomed.set()
                if self._held is not None and self._held in data:
                    self.num_held += 1
                    await self._flows.wait()
                writer.write(data)
                await writer.drain()

    async def _pump_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self.num_replies_to_drop:
                    self.num_replies_to_drop -= 1
                    return
                if doomed.is_set():
                    return
                writer.write(data)
                await writer.drain()

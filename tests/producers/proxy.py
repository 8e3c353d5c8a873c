"""A TCP proxy before Redis that loses replies, cuts connections, and goes away and comes back."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Stands before the server at `upstream_url`, at `url`; a context manager."""

    def __init__(self, upstream_url: str) -> None:
        parts = urlsplit(upstream_url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.num_replies_to_drop = 0
        """So many replies are thrown away, each with its connection, after the server has done what was asked."""
        self.num_connections = 0

    @property
    def url(self) -> str:
        """Where clients find the proxy."""
        return f"redis://127.0.0.1:{self._port}/0"

    async def up(self) -> None:
        """Connections are accepted, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Nobody listens, and all connections are cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """All connections are closed; new ones are welcome."""
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
        from_server, to_server = await asyncio.open_connection(*self._upstream)
        self._writers |= {writer, to_server}
        pumps = {
            asyncio.create_task(self._pump(reader, to_server, is_reply=False)),
            asyncio.create_task(self._pump(from_server, writer, is_reply=True)),
        }
        self._tasks |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, to_server):
            end.close()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._tasks -= pumps
        self._writers -= {writer, to_server}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if is_reply and self.num_replies_to_drop:
                    self.num_replies_to_drop -= 1
                    return
                writer.write(data)
                await writer.drain()

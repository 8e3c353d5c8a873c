"""One connection to a Redis server: commands go out at once, answers come in by the event loop's callback, and nothing
is awaited but the last answer of a call.

It takes a third of the time that redis-py's pipelines take for each command.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

import hiredis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as Unanswered

from protocol.redis_url import RedisUrl
from worker.io.replies import Command, error_of, refused_login

_SENT_AT_ONCE: Final = 16
"""Commands; while Redis works on these, the next ones are packed."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_MISSING: Final = object()


class Connection(asyncio.Protocol):
    """Takes one call at a time; whoever makes it closes the connection after a failed one."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of, notEnoughData=_MISSING)
        self._answers: list[Any] = []
        self._num_wanted = 0
        self._asked: asyncio.Future[list[Any]] | None = None

    @classmethod
    async def open(cls, url: RedisUrl, limit_s: float) -> "Connection":
        """A connection that has logged in.

        Raises redis-py's ConnectionError, TimeoutError after `limit_s`, AuthenticationError, ResponseError.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await cls._open(url, limit_s)
        except TimeoutError as error:
            raise Unanswered(f"no answer from {url.address} within {limit_s:g} s") from error
        except OSError as error:
            raise Disconnected(f"cannot connect to {url.address}: {error}") from error

    @classmethod
    async def _open(cls, url: RedisUrl, limit_s: float) -> "Connection":
        loop = asyncio.get_running_loop()
        if url.path:
            _, connection = await loop.create_unix_connection(cls, url.path)
        else:
            _, connection = await loop.create_connection(cls, url.host, url.port, ssl=url.tls_context())
        try:
            if commands := _greeting(url):
                for command, answer in zip(commands, await connection.ask(commands, limit_s), strict=True):
                    if isinstance(answer, Exception):
                        raise refused_login(command, answer)
        except BaseException:
            connection.close()
            raise
        return connection

    async def ask(self, commands: Sequence[Command], limit_s: float) -> list[Any]:
        """The answers to these commands (at least one), errors of Redis among them as exceptions.

        Raises redis-py's ConnectionError for a server that hangs up, TimeoutError for one that says nothing for
        `limit_s`.
        """
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[list[Any]] = loop.create_future()
        if not self.is_open or self._transport is None:
            raise Disconnected("the connection to Redis was closed before it was used")
        self._asked, self._answers, self._num_wanted = asked, [], len(commands)
        timer = loop.call_later(limit_s, self._expire, limit_s)
        try:
            for part in _packs(commands):
                self._transport.write(part)
            return await asked
        finally:
            timer.cancel()
            self._asked, self._answers = None, []

    def close(self) -> None:
        """Hang up; nobody hears what is still to come."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and have the system notice a server that has vanished."""
        self._transport, self.is_open = cast(asyncio.Transport, transport), True
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if (option := getattr(socket, name, None)) is not None:  # macOS lacks one
                    raw.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        """Take part of an answer, or several."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _MISSING:
                self._take(answer)
        except InvalidResponse as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the call in progress: the server, or this side, has hung up."""
        self.is_open = False
        self._fail(Disconnected(f"the connection to Redis was lost{f' ({exc})' if exc else ''}"))

    def _take(self, answer: Any) -> None:
        if self._asked is None or self._asked.done():
            self._end(InvalidResponse("an answer came that nobody had asked for"))
            return
        self._answers.append(answer)
        if len(self._answers) == self._num_wanted:
            self._asked.set_result(self._answers)

    def _expire(self, limit_s: float) -> None:
        self._fail(Unanswered(f"no answer within {limit_s:g} s"))

    def _end(self, error: Exception) -> None:
        self._fail(error)
        self.close()

    def _fail(self, error: Exception) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)


def _greeting(url: RedisUrl) -> list[Command]:
    commands: list[Command] = []
    if url.password or url.username:
        commands.append(("AUTH", url.username, url.password) if url.username else ("AUTH", url.password))
    if url.db:
        commands.append(("SELECT", url.db))
    if url.client_name:
        commands.append(("CLIENT", "SETNAME", url.client_name))
    return commands


def _packs(commands: Sequence[Command]) -> Iterator[bytes]:
    for first in range(0, len(commands), _SENT_AT_ONCE):
        yield b"".join(map(_packed, commands[first : first + _SENT_AT_ONCE]))


_packed: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows one argument

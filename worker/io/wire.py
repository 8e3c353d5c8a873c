"""A connection that redis-py has opened, spoken over without its streams: commands go out at once, answers come in by
the event loop's callback, and nothing is awaited but the last answer of a call.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as Unanswered

_MISSING: Final = object()


class Wire(asyncio.Protocol):
    """Takes the transport of a fresh connection over for good. One call at a time; whoever makes it closes the wire
    after a failed one. A call is written as a whole, however long it is.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        writer = connection._writer  # the only way to what redis-py has connected, by TLS where so wanted
        if writer is None or writer.transport.is_closing():
            raise Disconnected("the connection to Redis was closed while it was opened")
        self.connection = connection
        self.is_open = True
        self._transport = cast(asyncio.Transport, writer.transport)
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_MISSING
        )
        self._answers: list[Any] = []
        self._num_wanted = 0
        self._asked: asyncio.Future[list[Any]] | None = None

    async def ask(self, parts: Iterable[bytes], number: int, limit_s: float) -> list[Any]:
        """The `number` (≥ 1) answers to the packed commands in `parts`, errors of Redis among them as redis-py's.

        Raises what redis-py raises for a server that hangs up, or says nothing for `limit_s`.
        """
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[list[Any]] = loop.create_future()
        self._asked, self._answers, self._num_wanted = asked, [], number
        timer = loop.call_later(limit_s, self._expire, limit_s)
        try:
            for part in parts:
                self._transport.write(part)
            answers = await asked
        finally:
            timer.cancel()
            self._asked, self._answers = None, []
        for answer in answers:
            if isinstance(answer, Disconnected):  # it is loading its data, or takes nobody more
                raise answer
        return answers

    def close(self) -> None:
        """What is still to come is heard by nobody."""
        self.is_open = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Part of an answer, or several."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _MISSING:
                if not isinstance(answer, hiredis.PushNotification):
                    self._take(answer)
        except InvalidResponse as error:
            self._end(error)

    def _take(self, answer: Any) -> None:
        if self._asked is None or self._asked.done():
            self._end(InvalidResponse("an answer came that nobody had asked for"))
            return
        self._answers.append(answer)
        if len(self._answers) == self._num_wanted:
            self._asked.set_result(self._answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has hung up, or redis-py has, which waits for its own protocol to hear of it."""
        self.is_open = False
        self._fail(Disconnected(f"the connection to Redis was lost{f' ({exc})' if exc else ''}"))
        self._former.connection_lost(exc)

    def _expire(self, limit_s: float) -> None:
        self._fail(Unanswered(f"no answer within {limit_s:g} s"))

    def _end(self, error: Exception) -> None:
        self._fail(error)
        self.close()

    def _fail(self, error: Exception) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)

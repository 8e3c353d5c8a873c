"""Calls of many commands to one Redis, sent as they are packed and answered in one go.

The worker's hot path. redis-py connects, logs in, and tells what answers mean; its own pipelines take about three times
as long for each command, and a task for each write.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ClusterError, ResponseError
from redis.exceptions import TimeoutError as Unanswered

from worker.io.connection import TIMEOUT_S, is_cluster, patience
from worker.io.wire import Wire

Command: TypeAlias = tuple[str | bytes | int, ...]
"""Its name, and its arguments."""

_SENT_AT_ONCE: Final = 16
"""Commands; while Redis works on these, the next ones are packed."""


class Channel:
    """Connections that are kept for such calls until their client is closed; at any time as many as there are calls."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.is_cluster = is_cluster(redis)
        self._pool: Any = None if self.is_cluster else redis.connection_pool
        self._idle: list[Wire] = []
        self._retry = patience()

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Each command's answer, as redis-py gives it, or what Redis says is wrong with it (a ResponseError).

        All are sent again, a few times, when the connection is lost or no answer comes within `TIMEOUT_S`: only for
        commands that may be repeated. Raises what redis-py raises for a Redis that is gone.
        """
        if not commands:
            return []
        if self.is_cluster:
            return await self._ask_cluster(commands)
        return await self._retry.call_with_retry(lambda: self._ask(commands), _is_left)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        wire = await self._wire()
        try:
            answers = await wire.ask(_packs(commands), len(commands), TIMEOUT_S)
        except BaseException:
            await self._discard(wire)  # with answers that are still to come
            raise
        self._idle.append(wire)
        return [self._parsed(command, answer) for command, answer in zip(commands, answers, strict=True)]

    async def _wire(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                return wire
            await self._discard(wire)
        connection = self._pool.get_available_connection()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                # One that has lain idle may be dead, and nobody has heard: a Wire would wait for its answer.
                await connection.disconnect(nowait=True)
                await connection.connect()
                return Wire(connection)
        except BaseException as error:
            await self._give_back(connection)
            if isinstance(error, TimeoutError):
                raise Unanswered(f"no answer within {TIMEOUT_S:g} s") from error
            raise

    async def _discard(self, wire: Wire) -> None:
        wire.close()
        await self._give_back(wire.connection)

    async def _give_back(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    def _parsed(self, command: Command, answer: Any) -> Any:
        parse = None if isinstance(answer, ResponseError) else self._redis.response_callbacks.get(str(command[0]))
        return parse(answer) if parse else answer

    async def _ask_cluster(self, commands: Sequence[Command]) -> list[Any]:
        # redis-py knows which nodes to ask.
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers = list(await pipe.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, ClusterError) or (
                isinstance(answer, Exception) and not isinstance(answer, ResponseError)
            ):
                raise answer
        return answers


def _packs(commands: Sequence[Command]) -> Iterator[bytes]:
    for first in range(0, len(commands), _SENT_AT_ONCE):
        yield b"".join(map(_packed, commands[first : first + _SENT_AT_ONCE]))


_packed: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows one argument


async def _is_left(_: Exception) -> None:
    # The connection has been closed; the next attempt opens it again.
    return

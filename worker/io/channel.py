"""Calls of many commands to one Redis, sent as they are packed and answered in one go.

The worker's hot path. redis-py connects, logs in and reads; its own pipelines take about three times as long for each
command, and a task for each write.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ClusterError, ResponseError
from redis.exceptions import TimeoutError as Unanswered

from worker.io.connection import TIMEOUT_S, is_cluster, patience

Command: TypeAlias = tuple[str | bytes | int, ...]
"""Its name, and its arguments."""

_SENT_AT_ONCE: Final = 16
"""Commands; while Redis works on these, the next ones are packed."""


class Channel:
    """Connections that are kept for such calls until their client is closed; at any time as many as there are calls."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.is_cluster = is_cluster(redis)
        self._idle: list[AbstractConnection] = []
        self._retry = patience()

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Each command's answer, as redis-py gives it, or what Redis says is wrong with it (a ResponseError).

        All are sent again, a few times, when the connection is lost or no answer comes within `TIMEOUT_S`: only for
        commands that may be repeated. Raises what redis-py raises for a Redis that is gone.
        """
        if self.is_cluster:
            return await self._ask_cluster(commands)
        return await self._retry.call_with_retry(lambda: self._ask(commands), _is_left)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for first in range(0, len(commands), _SENT_AT_ONCE):
                    packed = b"".join(map(_packed, commands[first : first + _SENT_AT_ONCE]))
                    await connection.send_packed_command(packed, check_health=False)
                return [await self._answer(connection, str(command[0])) for command in commands]
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            raise Unanswered(f"no answer within {TIMEOUT_S:g} s") from error
        except BaseException:
            await connection.disconnect(nowait=True)  # with answers that are still to come
            raise
        finally:
            self._idle.append(connection)

    async def _connect(self) -> AbstractConnection:
        pool: Any = self._redis.connection_pool
        connection: AbstractConnection = await pool.get_connection()
        connection.socket_timeout = None  # one for the whole call takes the place of one for each command
        connection.health_check_interval = 0
        return connection

    async def _answer(self, connection: AbstractConnection, name: str) -> Any:
        try:
            answer = await connection.read_response()
        except ResponseError as error:
            return error
        parse = self._redis.response_callbacks.get(name)
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


_packed: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows one argument


async def _is_left(_: Exception) -> None:
    # The connection has been closed; the next attempt opens it again.
    return

"""The worker's way to Redis: calls of many commands, sent together and answered together.

A cluster is named by `redis+cluster://` (or `rediss+cluster://`) and any of its nodes; redis-py finds the others.
"""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple, Self, TypeAlias, TypeVar

from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Unanswered

from protocol.redis_url import InvalidRedisUrl, RedisUrl, parse_redis_url, redact
from worker.io.connection import Connection
from worker.io.replies import Command, Interrupted, checked
from worker.io.scripts import Script

_T = TypeVar("_T")

TIMEOUT_S = 5.0
"""How long an answer may take: well above what any read blocks."""

GONE: Final = (RedisError, RedisClusterException, OSError)
"""Whatever a call raises; who catches it waits for Redis and tries again."""

Call: TypeAlias = tuple[Sequence[str], Sequence[str | bytes | int]]
"""Keys and arguments of a script."""

_NO_EVICTION: Final = "noeviction"
_RETRIES: Final = 3
_FIRST_PAUSE_S: Final = 0.02  # doubled each time
_LONGEST_PAUSE_S: Final = 0.5
_STREAM_READS: Final = ("XRANGE", "XREAD", "XREVRANGE")


class RedisUnreachable(Exception):
    """No Redis server answers where one was expected."""


class NoAnswer(RedisUnreachable):
    """Nobody answers at the address, or a server that cannot serve yet: it may later."""


class Page(NamedTuple):
    """One step of a SCAN."""

    cursor: int
    """0 after the last step."""
    keys: list[bytes]


class Client:
    """One server. Has as many connections as there are calls at one time, and keeps them."""

    is_cluster = False

    def __init__(self, url: RedisUrl) -> None:
        self.address: Final = url.address
        self._url = url
        self._idle: list[Connection] = []
        self._loaded: set[str] = set()  # scripts that the server knows, by their SHA

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Each command's answer, or what Redis says is wrong with it: a ResponseError, Denied by its access rules.

        All are sent again, a few times, when the connection is lost, no answer comes within `TIMEOUT_S`, or the server
        cannot serve now: only for commands that may be repeated. Raises redis-py's ConnectionError or TimeoutError for
        a Redis that is gone, Interrupted for one that goes on being unable.
        """
        if not commands:
            return []
        num_failures = 0
        while True:
            try:
                answers = await self._ask(commands)
                return [checked(answer, command) for answer, command in zip(answers, commands, strict=True)]
            except AuthenticationError:
                raise
            except (Disconnected, Unanswered):
                self._drop_idle()  # they may lead to a server that is a replica now
                self._loaded.clear()
                num_failures += 1
                if num_failures > _RETRIES:
                    raise
            await asyncio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**num_failures) * random.uniform(0.5, 1))

    async def ask(self, *command: str | bytes | int) -> Any:
        """The answer to one command. Raises what is wrong with it, and what `call` raises."""
        [answer] = await self.call([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """The script's result for each of these keys and arguments, like the answers of `call`.

        A server that has been started anew is given the script again, so it must be one that may be repeated.
        """
        commands = [("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls]
        for _ in range(_RETRIES):
            if script.sha not in self._loaded:
                await self.ask("SCRIPT", "LOAD", script.text)
                self._loaded.add(script.sha)
            answers = await self.call(commands)
            if not any(isinstance(answer, NoScriptError) for answer in answers):
                return answers
            self._loaded.discard(script.sha)
        raise Interrupted("Redis has forgotten each time the script that it was given")

    async def nodes(self) -> list[str]:
        """The servers that hold keys, by names to scan with."""
        return [self.address]

    async def scan(self, node: str, cursor: int, pattern: str, count: int) -> Page:
        """The next keys of the node that match, after about `count` were looked at."""
        found, keys = await self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        return Page(int(found), keys)

    async def facts(self, section: str) -> dict[str, str]:
        """Return what INFO tells of the server in this section."""
        text: str = (await self.ask("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def aclose(self) -> None:
        """Close the connections that no call uses."""
        self._drop_idle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        connection = await self._connection()
        try:
            answers = await connection.ask(commands, TIMEOUT_S)
        except BaseException:
            connection.close()  # with answers that are still to come
            raise
        self._idle.append(connection)
        return answers

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        return await Connection.open(self._url, TIMEOUT_S)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


class ClusterClient(Client):
    """A cluster. redis-py knows which nodes to ask."""

    is_cluster = True

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        retry = Retry(ExponentialWithJitterBackoff(base=_FIRST_PAUSE_S, cap=_LONGEST_PAUSE_S), retries=_RETRIES)
        self._cluster = RedisCluster(**url.settings, protocol=2, socket_timeout=TIMEOUT_S, retry=retry)
        callbacks: Any = self._cluster
        for name in _STREAM_READS:
            callbacks.set_response_callback(name, lambda answer, **_: answer)  # as one server gives it

    async def run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        # A cluster's pipelines refuse EVALSHA.
        return await self.call([("EVAL", script.text, len(keys), *keys, *args) for keys, args in calls])

    async def nodes(self) -> list[str]:
        await _redacted(self._cluster.initialize())
        return [node.name for node in self._cluster.get_primaries()]

    async def scan(self, node: str, cursor: int, pattern: str, count: int) -> Page:
        target = self._cluster.get_node(node_name=node)
        if target is None:  # it has left the cluster; its keys are on another one
            return Page(0, [])
        step: Any = await _redacted(self._cluster.scan(cursor, match=pattern, count=count, target_nodes=target))
        cursors, keys = step
        return Page(int(cursors[node]), list(keys))

    async def facts(self, section: str) -> dict[str, str]:
        found = await _redacted(self._cluster.info(section))
        return {str(name): str(value) for name, value in found.items()}

    async def aclose(self) -> None:
        await self._cluster.aclose()

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        pipe = self._cluster.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return list(await _redacted(pipe.execute(raise_on_error=False)))


async def _redacted(call: Awaitable[_T]) -> _T:
    # The result of a call of redis-py. Its errors of a login may quote the password, and are wrapped.
    try:
        return await call
    except GONE as error:
        redact(error)
        if isinstance(error.__cause__, AuthenticationError):
            raise AuthenticationError(str(error.__cause__)) from error
        raise


def connect(url: str) -> Client:
    """A client of the Redis at `url`, one server or a cluster; nothing is connected yet.

    Raises RedisUnreachable for a URL that cannot name one.
    """
    try:
        parsed = parse_redis_url(url)
    except InvalidRedisUrl as error:
        raise RedisUnreachable(str(error)) from None  # the cause holds the URL
    return ClusterClient(parsed) if parsed.is_cluster else Client(parsed)


def shown(url: str) -> str:
    """`url` without user, password and options; nothing of one that cannot be read."""
    try:
        return parse_redis_url(url).address
    except InvalidRedisUrl:
        return "an invalid URL"


async def check(redis: Client) -> str:
    """Return the version of the server that answers, "unknown" where its user may not ask.

    Raises NoAnswer; RedisUnreachable for a server that refuses the login, and for a cluster's node taken alone.
    """
    try:
        facts = await redis.facts("server")
    except AuthenticationError as error:
        raise RedisUnreachable(
            f"Redis at {redis.address} refuses this login: {error}; correct user, password and database of the URL"
        ) from error
    except ResponseError:  # it answers, but not this: a stand-in, or a user who may not ask
        return "unknown"
    except GONE as error:
        raise NoAnswer(
            f"no Redis answers at {redis.address} ({error}); start one, name another with --redis, or leave --redis "
            "out to use the embedded broker"
        ) from error
    if facts.get("redis_mode") == "cluster" and not redis.is_cluster:
        raise RedisUnreachable(
            f"Redis at {redis.address} is a cluster; name it {redis.address.replace('://', '+cluster://', 1)}"
        )
    return facts.get("redis_version", "unknown")


async def eviction_risk(redis: Client) -> str:
    """Return how this server may drop keys of a session, and the remedy; empty where it may not, or does not tell.

    Raises what `Client.ask` raises, but for a refusal.
    """
    try:
        facts = await redis.facts("memory")
    except ResponseError:
        return ""
    policy = facts.get("maxmemory_policy", _NO_EVICTION)
    if policy == _NO_EVICTION:
        return ""
    now = "when its memory is full" if facts.get("maxmemory", "0") != "0" else "once it has a maxmemory that is full"
    return (
        f"with maxmemory-policy {policy}, Redis drops keys of sessions {now}, and such sessions may end with an error; "
        f"set it to {_NO_EVICTION}"
    )

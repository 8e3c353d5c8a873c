"""The upstream library: write words into a session's source stream, and ring its bell.

async with Publisher("redis://127.0.0.1:6379", session=Session(target_language="fr")) as publisher:
    await publisher.create()
    await publisher.append("Good morning")
    await publisher.finalize()
    await publisher.close()
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final, Self, TypeVar

from redis.exceptions import RedisError, ResponseError

from producers.arguments import check_number, check_session
from producers.connection import (
    NO_ANSWER,
    WRITE_RETRIES,
    Broker,
    Link,
    backoff_s,
    broker_errors,
    interruptibly,
    open_writer,
)
from producers.errors import BrokerUnreachable, SessionExists, WrongShards
from producers.outbox import Outbox
from producers.session_methods import SessionMethods
from producers.tail import resume_outbox
from protocol import (
    ClientEvent,
    Session,
    SessionCreate,
    SessionPhase,
    bell_key,
    check_session_id,
    shard_of,
    source_key,
)
from protocol.keys import ABANDONED_TTL_S, BELL_FIELD, EVENT_FIELD, NUM_SHARDS, SHARDS_KEY

_T = TypeVar("_T")

MAX_BELL_ENTRIES: Final = 10_000
"""About how many rings a bell stream keeps; a worker that missed more finds the sessions by its sweep."""


class Publisher(SessionMethods):
    """The one writer of one session. Every method returns when Redis has the event.

    Events are numbered, so nothing is doubled when a reply is lost and redis-py sends again. A call that raises
    BrokerUnreachable or BrokerRefused keeps its event and sends it first with the next call, or with `flush()`: do not
    append the same words again. A publisher that joins a session takes it over: the worker refuses what an earlier one
    still sends, with the error `producer_conflict` in the target stream.
    """

    def __init__(
        self,
        broker: Broker,
        session_id: str | None = None,
        session: Session | None = None,
        *,
        num_shards: int = NUM_SHARDS,
        patience_s: float = 0.0,
    ) -> None:
        """Do not connect yet; without an id, the session gets a random one.

        `patience_s`: how long a call waits for an unreachable Redis (`math.inf`: for ever) before it raises
        BrokerUnreachable; 0 raises once redis-py's own few attempts have failed. `num_shards` is the workers' number.
        Raises InvalidSessionId, InvalidBrokerUrl, TypeError and ValueError for arguments of another kind.
        """
        self.session_id: Final = check_session_id(f"s-{token_hex(6)}" if session_id is None else session_id)
        self.session: Final = Session() if session is None else check_session(session)
        check_number("num_shards", num_shards, 1, is_whole=True)
        check_number("patience_s", patience_s, 0)
        self._link: Final[Link] = open_writer(broker)
        self._num_shards: Final = num_shards
        self._patience_s: Final = patience_s
        self._bell: Final = bell_key(shard_of(self.session_id, num_shards))
        self._source: Final = source_key(self.session_id)
        self._producer: Final = token_hex(4)
        self._outbox = Outbox(producer=self._producer)
        self._lock: Final = asyncio.Lock()

    @classmethod
    async def join(
        cls, broker: Broker, session_id: str, *, num_shards: int = NUM_SHARDS, patience_s: float = 0.0
    ) -> Self:
        """Return a publisher that continues an existing session. Raises SessionNotFound, WrongShards.

        A closed session can be joined too; sending to it raises IllegalEvent.
        """
        publisher = cls(broker, session_id, num_shards=num_shards, patience_s=patience_s)
        try:
            publisher._outbox = await publisher._patiently(publisher._resume)
        except BaseException:
            await publisher.disconnect()
            raise
        return publisher

    @property
    def address(self) -> str:
        """The broker's URL, without a password."""
        return self._link.address

    @property
    def phase(self) -> SessionPhase:
        """The session's phase, as far as this publisher knows it."""
        return self._outbox.phase

    @property
    def num_unsent_events(self) -> int:
        """Events that Redis has not confirmed."""
        return len(self._outbox.unsent)

    async def create(self) -> None:
        """Ask for the session. Raises SessionExists when its id is taken, WrongShards."""
        async with self._lock:
            if self._outbox.phase is SessionPhase.ABSENT and await self._patiently(self._look):
                raise SessionExists(
                    f"expected a new session, got the id of one that is there: {self.session_id}. "
                    "Join it with Publisher.join, or use another id"
                )
            self._outbox.put(SessionCreate(session=self.session))
            await self._flush()

    async def send(self, *events: ClientEvent) -> None:
        """Send several events in one round trip; where one is refused, only those before it.

        Raises TypeError for what is no event of a client, IllegalEvent, another ProtocolError for a bad value,
        OutboxFull beyond `MAX_UNSENT_EVENTS`.
        """
        async with self._lock:
            try:
                for event in events:
                    if not isinstance(event, ClientEvent):
                        raise TypeError(f"expected an event, InputTextAppend(text=...), got {type(event).__name__}")
                    self._outbox.put(event)
            finally:
                await self._flush()

    async def flush(self) -> None:
        """Send every event that earlier calls kept."""
        async with self._lock:
            await self._flush()

    async def disconnect(self) -> None:
        """Close every connection of this publisher, but no client that was passed in; leave the session as it is."""
        await self._link.close()

    async def _resume(self) -> Outbox:
        await self._look()
        return await resume_outbox(self._link.client, self.session_id, self._producer)

    async def _look(self) -> bool:
        # Tell whether the session exists. Raises WrongShards.
        is_taken, num_shards = await asyncio.gather(
            interruptibly(self._link.client.exists(self._source)), interruptibly(self._link.client.get(SHARDS_KEY))
        )
        self._check_shards(num_shards)
        return bool(is_taken)

    def _check_shards(self, found: bytes | str | None) -> None:
        text = found.decode(errors="replace") if isinstance(found, bytes) else found
        if text is None or text == str(self._num_shards):
            return
        if text.isdecimal():
            remedy = f"name the workers' number, Publisher(..., num_shards={text})"
        else:
            remedy = "another program has written that key: delete it, and restart the workers, which set it anew"
        raise WrongShards(
            f"expected {self._num_shards} shards, as this publisher was told, in {SHARDS_KEY} of Redis at "
            f"{self.address}, got {text[:40]!r}: {remedy}"
        )

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Return the result of a repeatable call; while Redis is unreachable, repeat it for up to `patience_s`.

        When the server answers that it is not the master, retry a few times whatever the patience: redis-py makes its
        own attempts only where nobody answers.
        """
        end_s, num_failures = time.monotonic() + self._patience_s, 0
        while True:
            try:
                with broker_errors(self.address):
                    return await call()
            except BrokerUnreachable as failure:
                num_failures += 1
                await self._link.drop_connections()
                pause_s = backoff_s(num_failures) * random.uniform(0.5, 1)
                is_fresh = isinstance(failure.__cause__, ResponseError) and num_failures <= WRITE_RETRIES
                if not is_fresh and time.monotonic() + pause_s > end_s:
                    raise
            await asyncio.sleep(pause_s)

    async def _flush(self) -> None:
        if self._outbox.unsent:
            await self._patiently(self._deliver)

    async def _deliver(self) -> None:
        unsent = self._outbox.unsent
        # Not a transaction: the bell may be on another node than the session. The bell is rung after the entries, so
        # that a worker that hears it finds them. A cluster sends a pipeline to all nodes at once: there, the bell is a
        # call of its own. Both keys expire when no producer writes any more.
        pipeline = self._link.client.pipeline(transaction=False)
        for data in unsent:
            pipeline.xadd(self._source, {EVENT_FIELD: data})
        pipeline.expire(self._source, ABANDONED_TTL_S)
        ring = self._link.client.pipeline(transaction=False) if self._link.is_cluster else pipeline
        ring.xadd(self._bell, {BELL_FIELD: self.session_id}, maxlen=MAX_BELL_ENTRIES, approximate=True)
        ring.expire(self._bell, ABANDONED_TTL_S)
        self._settle(await interruptibly(pipeline.execute(raise_on_error=False)), len(unsent))
        if ring is not pipeline:
            with suppress(*NO_ANSWER, RedisError):
                await interruptibly(ring.execute(raise_on_error=False))

    def _settle(self, replies: list[Any], num_events: int) -> None:
        """Drop the events before the first that failed, and raise its failure.

        Other failures are harmless: the events are in Redis, and a worker's sweep finds them without the bell.
        """
        failed = [index for index, reply in enumerate(replies[:num_events]) if isinstance(reply, Exception)]
        self._outbox.sent(min([*failed, num_events]))
        if failed:
            raise replies[failed[0]]

"""The upstream library: words into a session's source stream, and the bell rung after them.

async with Publisher("redis://127.0.0.1:6379", session=Session(target_language="fr")) as publisher:
    await publisher.create()
    await publisher.append("Good morning")
    await publisher.finalize()
    await publisher.close()
"""

import asyncio
from secrets import token_hex
from types import TracebackType
from typing import Any, Final, Self

from producers.connection import Broker, Link, broker_errors, interruptibly, open_writer
from producers.errors import BrokerRefused, SessionExists
from producers.outbox import Outbox
from producers.tail import resume_outbox
from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    Session,
    SessionClose,
    SessionCreate,
    SessionPatch,
    SessionPhase,
    SessionUpdate,
    bell_key,
    check_session_id,
    shard_of,
    source_key,
)
from protocol.keys import ABANDONED_TTL_S, BELL_FIELD, EVENT_FIELD, NUM_SHARDS

MAX_BELL_ENTRIES: Final = 10_000
"""About how many rings a bell keeps; a worker that has missed more finds sessions by its sweep."""


class Publisher:
    """The one writer of one session. Every method returns when Redis has the event.

    Events have numbers, so nothing is doubled when a reply is lost and redis-py sends again. A call that raises
    BrokerUnreachable or BrokerRefused has kept its event: it goes out first with the next call, or with `flush()`; do
    not call again for the same words. Two publishers of one session at the same time would use the same numbers, and
    the worker would take the words of one for copies of the other's.
    """

    def __init__(
        self,
        broker: Broker,
        session_id: str | None = None,
        session: Session | None = None,
        *,
        num_shards: int = NUM_SHARDS,
    ) -> None:
        """Nothing is connected yet; without an id, the session gets a random one.

        Raises InvalidSessionId, InvalidBrokerUrl.
        """
        self.session_id: Final = check_session_id(f"s-{token_hex(6)}" if session_id is None else session_id)
        self.session: Final = Session() if session is None else session
        self._link: Final[Link] = open_writer(broker)
        self._bell: Final = bell_key(shard_of(self.session_id, num_shards))
        self._source: Final = source_key(self.session_id)
        self._outbox = Outbox()
        self._lock: Final = asyncio.Lock()

    @classmethod
    async def join(cls, broker: Broker, session_id: str, *, num_shards: int = NUM_SHARDS) -> Self:
        """A publisher that goes on in a session which is there. Raises SessionNotFound when there is none.

        A session that has been closed is joined, too; whatever is sent to it raises IllegalEvent.
        """
        publisher = cls(broker, session_id, num_shards=num_shards)
        try:
            with broker_errors(publisher.address):
                publisher._outbox = await resume_outbox(publisher._link.client, session_id)
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
        """Where the session stands by what this publisher knows of it."""
        return self._outbox.phase

    @property
    def num_unsent_events(self) -> int:
        """How many events are kept that Redis has not confirmed."""
        return len(self._outbox.unsent)

    async def create(self) -> None:
        """The session is asked for. Raises SessionExists when its id is taken."""
        async with self._lock:
            if self._outbox.phase is SessionPhase.ABSENT:
                with broker_errors(self.address):
                    is_taken = await interruptibly(self._link.client.exists(self._source))
                if is_taken:
                    raise SessionExists(
                        f"expected a new session, got the id of one that is there: {self.session_id}. "
                        "Join it with Publisher.join, or use another id"
                    )
            self._outbox.put(SessionCreate(session=self.session))
            await self._flush()

    async def append(self, text: str) -> None:
        """The words of `text` (whole words, whitespace between) have joined the open segment."""
        await self._send(InputTextAppend(text=text))

    async def finalize(self) -> None:
        """The segment's source is complete."""
        await self._send(InputTextFinalize())

    async def update(self, patch: SessionPatch) -> None:
        """The session is asked to go on with these options."""
        await self._send(SessionUpdate(session=patch))

    async def close(self) -> None:
        """The session is asked to close after what it has read; this publisher stays connected."""
        await self._send(SessionClose())

    async def flush(self) -> None:
        """Redis has everything that earlier calls had to keep."""
        async with self._lock:
            await self._flush()

    async def disconnect(self) -> None:
        """No connection of this publisher is open; the session is untouched. A client handed in stays open."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def _send(self, event: ClientEvent) -> None:
        async with self._lock:
            self._outbox.put(event)
            await self._flush()

    async def _flush(self) -> None:
        unsent = self._outbox.unsent
        if not unsent:
            return
        # Not a transaction: the bell may lie on another node than the session. The bell comes after the entries, so a
        # worker that hears it finds them: in a cluster, whose nodes hear a pipeline at one time, by a call of its own.
        # Both keys expire when nobody writes any more.
        pipeline = self._link.client.pipeline(transaction=False)
        for data in unsent:
            pipeline.xadd(self._source, {EVENT_FIELD: data})
        pipeline.expire(self._source, ABANDONED_TTL_S)
        ring = self._link.client.pipeline(transaction=False) if self._link.is_cluster else pipeline
        ring.xadd(self._bell, {BELL_FIELD: self.session_id}, maxlen=MAX_BELL_ENTRIES, approximate=True)
        ring.expire(self._bell, ABANDONED_TTL_S)
        with broker_errors(self.address):
            replies: list[Any] = await interruptibly(pipeline.execute(raise_on_error=False))
            if ring is not pipeline:
                replies += await interruptibly(ring.execute(raise_on_error=False))
        self._settle(replies, len(unsent))

    def _settle(self, replies: list[Any], num_events: int) -> None:
        """Forget the events up to the first refused one; raise BrokerRefused when anything was refused."""
        refused = [index for index, reply in enumerate(replies) if isinstance(reply, Exception)]
        self._outbox.sent(min([*refused, num_events]))
        if refused:
            raise BrokerRefused(self.address, str(replies[refused[0]]))

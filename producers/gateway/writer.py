"""Write events into source streams: all that waits goes out in one pipeline, whoever sent it.

An event without a number must not be sent twice, so nothing here is sent again; whoever numbers events may do so.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from producers.connection import Link, broker_errors, interruptibly
from producers.publisher import MAX_BELL_ENTRIES
from protocol import bell_key, shard_of, source_key
from protocol.keys import ABANDONED_TTL_S, BELL_FIELD, EVENT_FIELD, NUM_SHARDS, OWNER_FIELD, SHARDS_KEY

MAX_BATCH_EVENTS: Final = 1_000
"""Events in one pipeline, about."""


class _Write(Struct, eq=False):
    session_id: str
    fields: list[dict[str, bytes]]
    done: asyncio.Future[None]


class Writer:
    """Writes to source streams, over one connection. `run` has to be running."""

    def __init__(self, link: Link) -> None:
        self._link: Final = link
        self._num_shards: int | None = None
        self._waiting: list[_Write] = []
        self._has_writes: Final = asyncio.Event()

    async def send(self, session_id: str, events: Sequence[bytes], *, owner: str | None = None) -> None:
        """Return when Redis has the events, JSON each. Raises BrokerUnreachable, BrokerRefused.

        `owner` goes beside the first event; only a session's first one has it.
        """
        if not events:
            return
        fields = [{EVENT_FIELD: data} for data in events]
        if owner is not None:
            fields[0][OWNER_FIELD] = owner.encode()
        write = _Write(session_id, fields, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        self._has_writes.set()
        with broker_errors(self._link.address):
            await write.done

    async def run(self) -> None:
        """Send what is waiting, again and again."""
        while True:
            await self._has_writes.wait()
            batch = self._take()
            try:
                await self._deliver(batch)
            except Exception as failure:  # whoever waits for these learns it; the next ones must not wait for ever
                for write in batch:
                    _settle(write, failure)
                await self._link.drop_connections()

    def _take(self) -> list[_Write]:
        num_events = end = 0
        while end < len(self._waiting) and num_events < MAX_BATCH_EVENTS:
            num_events += len(self._waiting[end].fields)
            end += 1
        batch, self._waiting = self._waiting[:end], self._waiting[end:]
        if not self._waiting:
            self._has_writes.clear()
        return batch

    async def _shards(self) -> int:
        # The deployment's number, fixed once its first worker has started.
        if self._num_shards is None:
            found: Any = await interruptibly(self._link.client.get(SHARDS_KEY))
            if found is None or not found.isdigit():
                return NUM_SHARDS
            self._num_shards = int(found)
        return self._num_shards

    async def _deliver(self, batch: list[_Write]) -> None:
        num_shards = await self._shards()
        pipeline = self._link.client.pipeline(transaction=False)
        for write in batch:
            for fields in write.fields:
                pipeline.xadd(source_key(write.session_id), fields)  # type: ignore[arg-type]  # a dict is invariant
        sessions = dict.fromkeys(write.session_id for write in batch)
        for session_id in sessions:
            pipeline.expire(source_key(session_id), ABANDONED_TTL_S)
        # A cluster sends a pipeline to all nodes at once; a bell that is heard before its words finds nothing.
        ring = self._link.client.pipeline(transaction=False) if self._link.is_cluster else pipeline
        bells = {session_id: bell_key(shard_of(session_id, num_shards)) for session_id in sessions}
        for session_id, bell in bells.items():
            ring.xadd(bell, {BELL_FIELD: session_id}, maxlen=MAX_BELL_ENTRIES, approximate=True)
        for bell in dict.fromkeys(bells.values()):
            ring.expire(bell, ABANDONED_TTL_S)
        replies: list[Any] = await interruptibly(pipeline.execute(raise_on_error=False))
        at = 0
        for write in batch:
            own = replies[at : at + len(write.fields)]
            at += len(own)
            _settle(write, next((reply for reply in own if isinstance(reply, Exception)), None))
        if ring is not pipeline:
            await interruptibly(ring.execute(raise_on_error=False))


def _settle(write: _Write, failure: Exception | None) -> None:
    if write.done.done():  # whoever sent it has gone
        return
    if failure is None:
        write.done.set_result(None)
    else:
        write.done.set_exception(failure)

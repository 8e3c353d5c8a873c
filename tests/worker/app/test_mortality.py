"""Workers that die: at any moment, it is held against no session; always at one event, against that."""

import asyncio
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from tests.conftest import one_redis
from tests.worker.app.conftest import CLOSE, FINALIZE, Event, Raw, append, create, new_worker, until, untimed
from worker.app.engine import Engine
from worker.app.handle import SessionHandle
from worker.app.publish import Committer
from worker.app.worker import Worker
from worker.core.quarantine import MAX_ATTEMPTS, QUARANTINE_OWNERS
from worker.io.replies import Entry
from worker.io.store import Claim, Store

pytestmark = one_redis
POISON = "plutonium"
LEASE_MS = 300
WORDS = ["Please", "close", "the", "window", "before", "you", "leave", "the", "room."]
TALK: list[Event] = [create(), *map(append, WORDS[:5]), FINALIZE, *map(append, WORDS[5:]), FINALIZE, CLOSE]
NAMES = [f"s{i}" for i in range(6)]


class Mortals:
    """Workers, one at a time. Each dies, as by a SIGKILL, when `is_over` says so before one of its commits or when
    an event is more than it can stand; then there is the next one, until all sessions are closed.
    """

    def __init__(self, url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deaths = 0
        self.letters = 0.0
        self.is_over: Callable[[Worker], bool] = lambda _: False
        self._url = url
        self._engine = engine
        self._life: asyncio.Task[None] | None = None
        self.worker: Worker | None = None
        self.is_trying = False  # a session is being taken alone: whoever dies now has died of it
        publish, take, open_ = Committer.publish, SessionHandle.take, Store.open

        async def fragile_publish(egress: Committer) -> None:
            assert self.worker is not None
            if self.is_over(self.worker):
                self._kill()
                await asyncio.Event().wait()
            await publish(egress)

        def allergic_take(handle: SessionHandle, entry: Entry, *args: object, **kwargs: object) -> None:
            if POISON.encode() in entry[1].get(b"event", b""):
                self._kill()
                raise asyncio.CancelledError
            take(handle, entry, *args, **kwargs)  # type: ignore[arg-type]

        async def noted_open(store: Store, claims: Sequence[Claim]) -> Any:
            self.is_trying = any(claim.is_alone for claim in claims)
            try:
                return await open_(store, claims)
            finally:
                self.is_trying = False

        monkeypatch.setattr(Committer, "publish", fragile_publish)
        monkeypatch.setattr(Store, "open", noted_open)
        monkeypatch.setattr(SessionHandle, "take", allergic_take)

    def _kill(self) -> None:
        assert self._life is not None
        assert self.worker is not None
        self._life.cancel()
        self.worker._stopping.set()  # for tasks in which redis-py swallows the cancellation

    async def serve(self) -> None:
        """For ever."""
        while True:
            self.worker = new_worker(self._url, self._engine, lease_ms=LEASE_MS, num_shards=1)
            self._life = asyncio.create_task(self.worker.run())
            await asyncio.wait([self._life])
            self.letters += self.worker.metrics.registry.get_sample_value("decalage_dead_letters_total") or 0
            assert self._life.cancelled()
            self.deaths += 1

    async def stop(self) -> None:
        """The last one has died, too."""
        if self._life is not None:
            self._kill()
            await asyncio.wait([self._life])


@pytest.fixture
def mortals(redis_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Mortals:
    """Workers that die."""
    return Mortals(redis_url, engine, monkeypatch)


async def heard_of(raw: Raw, mortals: Mortals, names: list[str]) -> list[list[Event]]:
    """What comes out of the sessions, to their end."""
    serving = asyncio.create_task(mortals.serve())
    try:
        return [untimed(await raw.hear(name, "session.closed")) for name in names]
    finally:
        serving.cancel()
        await mortals.stop()


@pytest.mark.parametrize("seed", range(4))
async def test_a_fleet_that_is_killed_at_random_puts_nothing_aside(raw: Raw, mortals: Mortals, seed: int) -> None:
    """Law: owners that die before some commit of theirs, be it the first, change nothing in what is said.

    Only a third death in a row while one session alone is tried is left out: that is what makes it the session's fault.
    """
    await raw.say("whole", *TALK)
    [whole] = await heard_of(raw, mortals, ["whole"])
    for name in NAMES:
        await raw.say(name, *TALK)
    dice, commits_left = Random(seed), [0]

    def is_over(worker: Worker) -> bool:
        if mortals.deaths >= 12 or mortals.is_trying or not worker.table.commits(lambda name: True):
            return False
        records = [handle.record for handle in worker.table if handle.record.is_quarantined]
        if any(record.failed_attempts == MAX_ATTEMPTS - 1 for record in records):
            return False
        commits_left[0] -= 1
        if commits_left[0] >= 0:
            return False
        commits_left[0] = dice.randrange(4)
        return True

    mortals.is_over = is_over
    assert await heard_of(raw, mortals, NAMES) == [whole] * len(NAMES)
    assert mortals.deaths > 5
    assert mortals.letters == 0
    assert not await raw.client.exists("decalage:{workers}:dead")


async def test_an_event_that_kills_every_owner_is_put_aside(raw: Raw, mortals: Mortals) -> None:
    """After the third that had nothing else in hand; whoever is told of it, and the other sessions lose nothing."""
    await raw.say("whole", *TALK)
    [whole] = await heard_of(raw, mortals, ["whole"])
    for name in NAMES:
        await raw.say(name, *TALK)
    deaths = mortals.deaths
    await raw.say("bad", *TALK[:4], append(POISON), *TALK[4:])
    *others, bad = await heard_of(raw, mortals, [*NAMES, "bad"])
    assert others == [whole] * len(NAMES)
    assert next(event["code"] for event in bad if event["type"] == "error") == "poison_event"
    assert next(event["reason"] for event in bad if event["type"] == "session.closed") == "error"
    letters: Any = await raw.client.xrange("decalage:{workers}:dead")
    assert [(letter[b"session"], json.loads(letter[b"event"])["text"]) for _, letter in letters] == [(b"bad", POISON)]
    assert QUARANTINE_OWNERS + MAX_ATTEMPTS <= mortals.deaths - deaths <= 2 * (QUARANTINE_OWNERS + MAX_ATTEMPTS)


async def test_owners_that_live_are_not_counted(raw: Raw, mortals: Mortals) -> None:
    """A session taken again and again by a worker that lives (replies lost, leases in doubt) is never suspected."""
    await raw.say("talk", create())
    serving = asyncio.create_task(mortals.serve())
    await raw.hear("talk", "session.created")
    worker = mortals.worker
    assert worker is not None
    for _ in range(6):
        handle = worker.table.get("talk")
        worker.table.forget("talk")
        await until(lambda old=handle: worker.table.get("talk") not in (None, old))  # type: ignore[misc]
        assert await raw.client.hget("decalage:{talk}:state", "owners") == b"1"
    serving.cancel()
    await mortals.stop()

"""Events at which workers fail: counted across owners, told apart from bystanders, put aside after the third."""

import asyncio
import json
from typing import Any

import pytest

from tests.worker.app.conftest import FINALIZE, Raw, Running, append, create, until
from worker.app.handle import SessionHandle
from worker.app.worker import Worker
from worker.core import quarantine
from worker.io.replies import Entry

POISON = "plutonium"


@pytest.fixture(autouse=True)
def allergic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker raises when it applies that word, and tries a lost session again at once."""
    take = SessionHandle.take

    def allergic_take(self: SessionHandle, entry: Entry, *args: object, **kwargs: object) -> None:
        if POISON.encode() in entry[1].get(b"event", b""):
            raise RuntimeError("cannot stand it")
        take(self, entry, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SessionHandle, "take", allergic_take)
    monkeypatch.setattr(quarantine, "RETRY_MS", 0)


def value(worker: Worker, name: str) -> float:
    """What a metric stands at."""
    return worker.metrics.registry.get_sample_value(name) or 0.0


async def owners(raw: Raw, session: str) -> int:
    """So many have taken the session since it got further."""
    return int(await raw.client.hget(f"decalage:{{{session}}}:state", "owners") or 0)


async def test_the_third_failure_puts_the_event_aside(raw: Raw, running: Running) -> None:
    """The session ends with an error that names the entry, the dead letter has it all, and the shard goes on."""
    async with running() as worker:
        await raw.say("bad", create(), append("I do"), append("not"), append(POISON), append("know."), FINALIZE)
        heard = await raw.hear("bad", "session.closed")
        await raw.say("good", create(), append("Thank you."), FINALIZE)
        assert (await raw.hear("good"))[-1]["text"] == "Merci."
        assert value(worker, "decalage_dead_letters_total") == 1
    error = next(event for event in heard if event["type"] == "error")
    assert error["code"] == "poison_event"
    assert heard[-1]["reason"] == "error"
    letters: Any = await raw.client.xrange("decalage:{workers}:dead")
    [(_, letter)] = letters
    assert json.loads(letter[b"event"])["text"] == POISON
    assert letter[b"source_id"].decode() in error["message"]
    assert (letter[b"session"], letter[b"cause"]) == (b"bad", b"cannot stand it")
    assert {"worker", "model", "wire_version", "python"} <= set(json.loads(letter[b"about"]))
    assert [event["word"] for event in heard if event["type"] == "output_text.delta"] == ["Je"]


async def test_owners_that_die_are_counted_over_all_of_them(raw: Raw, running: Running) -> None:
    """Three workers have died with nothing else in work: the next does not try again."""
    await raw.say("bad", create(), append("Thank you."), FINALIZE)
    await raw.client.hset("decalage:{bad}:state", mapping={"owners": 5, "attempts": 3})
    async with running() as worker:
        heard = await raw.hear("bad", "session.closed")
        assert value(worker, "decalage_dead_letters_total") == 1
    assert [event["type"] for event in heard] == ["error", "session.closed"]
    letters: Any = await raw.client.xrange("decalage:{workers}:dead")
    assert letters[0][1][b"cause"] == b"its worker ended while it worked on the session"


async def test_owners_that_die_with_much_in_work_convict_nobody(raw: Raw, running: Running) -> None:
    """However many have ended: only who works on the session alone counts."""
    await raw.say("talk", create(), append("Thank you."), FINALIZE)
    await raw.client.hset("decalage:{talk}:state", mapping={"owners": 9, "attempts": 2})
    async with running():
        assert (await raw.hear("talk"))[-1]["text"] == "Merci."
    assert await raw.client.hmget("decalage:{talk}:state", "owners", "attempts") == [b"1", b"0"]


async def test_who_gets_further_is_not_blamed(raw: Raw, running: Running) -> None:
    """Sessions whose owners were killed, however many there are, are brought back one by one, and go on."""
    names = [f"s{i}" for i in range(8)]
    async with running():
        await asyncio.gather(*(raw.say(name, create(), append("Please close the window")) for name in names))
        await asyncio.gather(*(raw.hear(name, "output_text.delta", count=2) for name in names))
    for name in names:
        assert await owners(raw, name) == 1
        await raw.client.hset(f"decalage:{{{name}}}:state", "owners", 2)
    async with running() as worker:
        await asyncio.gather(*(raw.say(name, append("now."), FINALIZE) for name in names))
        heard = await asyncio.gather(*(raw.hear(name) for name in names))
        assert value(worker, "decalage_dead_letters_total") == 0
    assert len({events[-1]["text"] for events in heard}) == 1
    assert [await owners(raw, name) for name in names] == [1] * 8


async def test_a_quiet_session_may_change_hands_for_ever(raw: Raw, running: Running) -> None:
    """A takeover that has nothing to do counts as a success."""
    async with running():
        await raw.say("talk", create(), append("Please"))
        await raw.hear("talk", "session.created")
    for _ in range(5):
        async with running() as worker:
            await until(lambda: (handle := worker.table.get("talk")) is not None and handle.record.is_clear)
        assert await owners(raw, "talk") == 1
    async with running():
        await raw.say("talk", append("close the window now."), FINALIZE)
        assert (await raw.hear("talk"))[-1]["source_words"] == 5


async def test_only_one_suspect_is_in_work_at_a_time(raw: Raw, running: Running) -> None:
    """While one is in quarantine, the others are not touched: a worker that dies now fails at one of them only."""
    names = [f"s{i}" for i in range(4)]
    for name in names:
        await raw.say(name, create(), append("Thank you."), FINALIZE)
        await raw.client.hset(f"decalage:{{{name}}}:state", "owners", 2)
    seen: list[int] = []
    async with running() as worker:

        async def watch() -> None:
            while True:
                seen.append(sum(handle.record.is_quarantined for handle in worker.table))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        heard = await asyncio.gather(*(raw.hear(name) for name in names))
        watching.cancel()
    assert max(seen) == 1
    assert all(events[-1]["text"] == "Merci." for events in heard)

"""What Redis says or denies at a bad moment ends no session, and a takeover needs no walk over the keyspace."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from protocol import bell_key, shard_of
from protocol.keys import BELL_FIELD, NUM_SHARDS
from tests.worker.app.conftest import FINALIZE, Raw, Running, append, create, until, untimed
from tests.worker.app.test_worker import value
from worker.core import quarantine
from worker.io.client import Client
from worker.io.doorbell import Sweep
from worker.io.index import SessionIndex
from worker.io.replies import Command, Interrupted, error_of

TEXT = ("Please close the window", "before you leave the room.")


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker walks over the keyspace."""

    async def step(_: Sweep) -> tuple[set[str], None]:
        return set(), None

    monkeypatch.setattr(Sweep, "step", step)


async def ring(raw: Raw, *names: str) -> None:
    """The bells of these sessions ring."""
    for name in names:
        await raw.client.xadd(bell_key(shard_of(name)), {BELL_FIELD: name})
        await raw.client.expire(bell_key(shard_of(name)), 100)


async def half(raw: Raw, *names: str) -> None:
    """Sessions in the middle of a sentence, whose producers have rung."""
    for name in names:
        await raw.say(name, create(), append(TEXT[0]))
    await ring(raw, *names)
    for name in names:
        await raw.hear(name, "output_text.delta", count=2)


async def rest(raw: Raw, *names: str) -> list[list[Any]]:
    """What each of them publishes once the rest is said."""
    for name in names:
        await raw.say(name, append(TEXT[1]), FINALIZE)
    await ring(raw, *names)
    return [untimed(await raw.hear(name)) for name in names]


@pytest.mark.usefixtures("unswept")
async def test_sessions_are_taken_over_by_the_index_and_rings_by_the_bell(raw: Raw, running: Running) -> None:
    """Open ones, whether or not anybody rings again; and new ones that rang while there was no worker."""
    names = [f"s{i}" for i in range(8)]
    async with running():
        await half(raw, *names)
    for name in ("new", "whole"):
        await raw.say(name, create(), append(TEXT[0]))
    await ring(raw, "new", "whole")
    async with running() as worker:
        await until(lambda: all(name in worker.table for name in names))
        whole, *others = await rest(raw, "whole", "new", *names)
    assert others == [whole] * 9


@pytest.mark.usefixtures("unswept")
async def test_a_session_that_is_closed_is_not_to_be_taken_over(raw: Raw, running: Running, client: Client) -> None:
    """It has left the index; who rings for it is answered all the same."""
    async with running():
        await half(raw, "open", "shut")
        await raw.say("shut", {"type": "session.close"})
        await ring(raw, "shut")
        await raw.hear("shut", "session.closed")
    assert await SessionIndex(client, NUM_SHARDS).sessions(range(NUM_SHARDS)) == ["open"]
    async with running():
        await raw.say("shut", append("more"))
        await ring(raw, "shut")
        assert (await raw.hear("shut", "error"))[-1]["code"] == "session_closed"


@pytest.mark.usefixtures("unswept")
async def test_who_rings_while_a_fetch_is_interrupted_is_heard(
    raw: Raw, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: a ring counts as heard once its session has been fetched."""
    async with running() as worker:
        read, num_failures = worker.ingest.read, 0

        async def interrupted(names: Sequence[str]) -> bool:
            nonlocal num_failures
            if "talk" in [*names] and num_failures < 3:
                num_failures += 1
                raise Interrupted("BUSY for now")
            return await read(names)

        monkeypatch.setattr(worker.ingest, "read", interrupted)
        await raw.say("talk", create(), append("Thank you."), FINALIZE)
        await ring(raw, "talk")
        assert (await raw.hear("talk"))[-1]["text"] == "Merci."
        assert num_failures == 3


@pytest.mark.parametrize("error", ["BUSY in a script", "MASTERDOWN no link", "LOADING data", "READONLY no master"])
async def test_a_server_in_trouble_during_a_replay_ends_no_session(
    raw: Raw, running: Running, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """Law: whoever replays waits, and the session publishes what it would have published."""
    async with running():
        await half(raw, "talk")
    original, num_errors = Client._ask, 0

    async def troubled(self: Client, commands: Sequence[Command]) -> list[Any]:
        nonlocal num_errors
        if any(command[0] == "XRANGE" and str(command[1]).endswith(":source") for command in commands):
            num_errors += 1
            if num_errors < 12:
                return [error_of(error)] * len(commands)
        return await original(self, commands)

    monkeypatch.setattr(Client, "_ask", troubled)
    async with running() as worker:
        [heard] = await rest(raw, "talk")
        [whole] = await rest_of_a_whole(raw)
        assert value(worker, "decalage_dead_letters_total") == 0
    assert num_errors >= 12
    assert heard == whole


async def rest_of_a_whole(raw: Raw) -> list[list[Any]]:
    """What a session says that nothing has happened to."""
    await raw.say("whole", create(), append(TEXT[0]))
    return await rest(raw, "whole")


async def test_a_denial_is_named_and_ends_no_session(
    raw: Raw, running: Running, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has key and command, others go on; once it is allowed, the session is whole."""
    monkeypatch.setattr(quarantine, "RETRY_MS", 0)
    async with running():
        await half(raw, "talk")

    async def allow(*rules: str) -> None:
        await raw.client.execute_command("ACL", "SETUSER", "w", *rules)  # type: ignore[no-untyped-call]

    await allow(
        "on",
        ">p",
        "+@all",
        "~decalage:{workers}:*",
        "~decalage:{other}:*",
        "~decalage:{talk}:state",
        "~decalage:{talk}:target",
    )
    try:
        with structlog.testing.capture_logs() as logs:
            async with running(redis=redis_url.replace("://", "://w:p@")) as worker:
                await until(lambda: sum(entry["event"] == "session_lost" for entry in logs) > 5)
                await raw.say("other", create(), append("Thank you."), FINALIZE)
                assert (await raw.hear("other"))[-1]["text"] == "Merci."
                await allow("~*")
                [heard] = await rest(raw, "talk")
                [whole] = await rest_of_a_whole(raw)
                assert value(worker, "decalage_dead_letters_total") == 0
        reasons = {entry["reason"] for entry in logs if entry["event"] == "session_lost"}
        assert any("Redis denies XRANGE on decalage:{talk}:source" in reason for reason in reasons)
        assert heard == whole
    finally:
        await raw.client.execute_command("ACL", "DELUSER", "w")  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("unswept")
async def test_five_hundred_sessions_change_hands_among_many_keys(raw: Raw, running: Running) -> None:
    """All of them, though nobody rings any more and 200,000 keys are others'."""
    fill = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'other:' .. i, '', 'EX', 600) end"
    for first in range(0, 200_000, 10_000):
        await raw.client.eval(fill, 0, first, first + 9_999)
    names = [f"s{i}" for i in range(500)]
    async with running():
        for name in names:
            await raw.say(name, create())
        await ring(raw, *names)
        await asyncio.gather(*(raw.hear(name, "session.created") for name in names[-3:]))
    async with running() as worker:
        await until(lambda: worker.sessions.num_open == 500)

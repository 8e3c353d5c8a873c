"""One run: talks said to a fleet on a Redis under a plan of faults, and their outcome."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from producers.connection import open_writer
from protocol import state_key
from tests.chaos.check import Entry
from tests.chaos.faults import Director, Fault, Ousting
from tests.chaos.fleet import Fleet
from tests.chaos.listeners import Listener, read_target
from tests.chaos.pace import Pace
from tests.chaos.servers import LastingCluster, LastingRedis
from tests.chaos.speakers import Speaker
from tests.chaos.talks import Talk
from tests.producers.proxy import Proxy


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a run."""

    program: Path  # the redis-server
    is_cluster: bool = False  # three servers
    model: Path
    directory: Path  # for data, status files and logs; empty
    seed: int
    plan: Sequence[Fault] = ()
    is_in_turn: bool = False  # each fault has words of its own, and the next one waits for it, whatever its time
    words_per_s: float | None = None  # of each session; None: as fast as possible
    workers: int = 1
    lease_ms: int = 3_000
    broken: str = "none"
    limit_s: float = 120.0  # after the plan's end


class Outcome(msgspec.Struct, kw_only=True):
    """The results of a run."""

    streams: dict[str, list[Entry]]  # target streams by session
    speakers: dict[str, Speaker]
    listeners: dict[str, Listener]
    oustings: list[Ousting]
    faults: dict[str, int]
    failures: list[str]  # faults of clients or workers, whatever the streams hold
    counters: dict[str, int]
    fenced: int  # refused commits, as counted by the scripts
    stale: int  # commits accepted although another worker had the session
    seconds: float


async def run(setup: Setup, talks: Sequence[Talk]) -> Outcome:
    """Say all talks and listen to their ends; `failures` names sessions that did not end."""
    start_s, dice = time.monotonic(), Random(setup.seed)
    server = (LastingCluster if setup.is_cluster else LastingRedis)(setup.program, setup.directory)
    options = ["--broken", setup.broken]
    fleet = Fleet(server.url, setup.model, setup.directory, lease_ms=setup.lease_ms, options=options)
    try:
        async with Proxy(server.url) as proxy:
            await asyncio.gather(*(fleet.join(dice) for _ in range(setup.workers)))
            pace = Pace(setup.words_per_s, min(talk.num_words for talk in talks) - 1 if setup.plan else 0)
            director = Director(fleet, server, [proxy], pace=pace, dice=dice, lease_ms=setup.lease_ms)
            speakers = {talk.session_id: Speaker(talk, _way(talk, server, proxy), pace) for talk in talks}
            listeners = {talk.session_id: Listener(_way(talk, server, proxy), talk.session_id) for talk in talks}
            failures = await _play(setup, director, [*speakers.values()], [*listeners.values()])
            await fleet.stop()
        streams, fenced, stale = await _account(server.url, talks)
    finally:
        for member in list(fleet.members):
            await fleet.kill(member)
        server.stop()
    return Outcome(
        streams=streams,
        speakers=speakers,
        listeners=listeners,
        oustings=director.oustings,
        faults=dict(director.done),
        failures=failures + fleet.failures,
        counters={name: fleet.count(name) for name in COUNTERS},
        fenced=fenced,
        stale=stale,
        seconds=time.monotonic() - start_s,
    )


COUNTERS: Final = ("duplicates", "replayed_words", "target_words", "fenced_commits")


def _way(talk: Talk, server: LastingRedis | LastingCluster, proxy: Proxy) -> str:
    return proxy.url if talk.manner == "proxied" and isinstance(server, LastingRedis) else server.url


async def _play(
    setup: Setup, director: Director, speakers: Sequence[Speaker], listeners: Sequence[Listener]
) -> list[str]:
    # All speak and listen while the plan is carried out; then the last words get time to arrive.
    speaking = [asyncio.create_task(speaker.run()) for speaker in speakers]
    listening = [asyncio.create_task(listener.run()) for listener in listeners]
    try:
        await _all_heard(listeners)
        await (director.run_in_turn if setup.is_in_turn else director.run)(setup.plan)
        await asyncio.wait([*speaking, *listening], timeout=setup.limit_s)
        waiting = [listener for listener, task in zip(listeners, listening, strict=True) if not task.done()]
        lost = [
            f"{len(waiting)} sessions did not end, such as {listener.session_id} behind event {listener.last_seq}"
            for listener in waiting[:1]
        ]
        lost += [f"a speaker failed: {task.exception()!r}" for task in speaking if task.done() and task.exception()]
        lost += [f"a listener failed: {task.exception()!r}" for task in listening if task.done() and task.exception()]
        return lost + [f"{listener.session_id}: {listener.failure}" for listener in listeners if listener.failure]
    finally:
        for task in (*speaking, *listening):
            task.cancel()
        await asyncio.gather(*speaking, *listening, return_exceptions=True)


async def _all_heard(listeners: Sequence[Listener]) -> None:
    # Wait until every session is open, so that a plan begins at the same point on every machine.
    while any(not listener.heard and not listener.failure for listener in listeners):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def _account(url: str, talks: Sequence[Talk]) -> tuple[dict[str, list[Entry]], int, int]:
    async with open_writer(url).client as client:
        streams = {talk.session_id: await read_target(client, talk.session_id) for talk in talks}
        counts = [await client.hmget(state_key(name), ["audit_fenced", "audit_stale"]) for name in streams]
    fenced, stale = (sum(int(count[i] or 0) for count in counts) for i in (0, 1))
    return streams, fenced, stale

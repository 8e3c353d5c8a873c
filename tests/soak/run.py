"""Sessions that come and go on one Redis, a fixed number at once, while samples are taken."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from redis.asyncio import Redis

from tests.chaos.fleet import Fleet
from tests.chaos.listeners import Listener
from tests.chaos.pace import Pace
from tests.chaos.servers import LastingRedis
from tests.chaos.speakers import Speaker
from tests.chaos.talks import Talk, make_talks
from tests.soak.samples import Sample, take

_LEASE_MS: Final = 3_000
_SESSION_WORDS: Final = 12


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a soak."""

    program: Path
    model: Path
    directory: Path  # empty
    seconds: float
    sessions: int = 20  # at once
    workers: int = 2
    words_per_s: float = 3.0  # of each session
    closed_ttl_s: int = 20  # much shorter than in service, so that the number of keys is soon steady
    every_s: float = 5.0  # between samples


async def soak(setup: Setup) -> tuple[list[Sample], list[str]]:
    """Run the soak; return its samples and failures."""
    server = LastingRedis(setup.program, setup.directory)
    options = ["--closed-ttl-s", str(setup.closed_ttl_s)]
    fleet = Fleet(server.url, setup.model, setup.directory, lease_ms=_LEASE_MS, options=options)
    try:
        for _ in range(setup.workers):
            await fleet.join(Random(0))
        samples, failures = await _watch(setup, server.url, fleet)
        await fleet.stop()
        return samples, failures + fleet.failures
    finally:
        for member in list(fleet.members):
            await fleet.kill(member)
        server.stop()


async def _watch(setup: Setup, url: str, fleet: Fleet) -> tuple[list[Sample], list[str]]:
    ended: list[Listener] = []
    samples: list[Sample] = []
    talks = _talks()
    seats = [asyncio.create_task(_sit(setup, url, talks, ended)) for _ in range(setup.sessions)]
    start_s = time.monotonic()
    try:
        async with Redis.from_url(url) as redis:
            while (now_s := time.monotonic() - start_s) < setup.seconds:
                pids = [member.process.pid for member in fleet.members]
                samples.append(await take(redis, now_s, len(ended), pids))
                await asyncio.wait(seats, timeout=setup.every_s, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for seat in seats:
            seat.cancel()
        outcomes = await asyncio.gather(*seats, return_exceptions=True)
    failures = [repr(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    return samples, failures + [listener.failure for listener in ended if listener.failure]


async def _sit(setup: Setup, url: str, talks: Iterator[Talk], ended: list[Listener]) -> None:
    # One session after the other.
    for talk in talks:
        listener = Listener(url, talk.session_id)
        await asyncio.gather(Speaker(talk, url, Pace(setup.words_per_s)).run(), listener.run())
        ended.append(listener)


def _talks() -> Iterator[Talk]:
    for seed in itertools.count():
        yield from make_talks(seed, 100, _SESSION_WORDS)

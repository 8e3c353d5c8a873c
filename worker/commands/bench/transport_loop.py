"""The delay of words through Redis and a worker without a model, and through Redis alone; and commits a second."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from statistics import quantiles
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from worker.commands.bench.machine import machine_facts
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.transport_commits import Commits, commit_speed, redis_cpu_s
from worker.commands.bench.transport_load import WATCHED, Load, Plain, Served, connected, delays_ms
from worker.commands.bench.transport_process import NullWorker, redis_server

_START_LIMIT_S: Final = 60.0


class Point(msgspec.Struct, frozen=True):
    """The figures of one load. A delay lasts from before the append of a word to after the read of its target word."""

    sessions: int
    words_per_s: float  # of all sessions, published
    p50_ms: float
    p99_ms: float
    plain_p50_ms: float  # the same words, written to a stream and read from it
    plain_p99_ms: float
    num_delays: int
    worker_cpu: float  # of one core
    redis_cpu: float
    hundredths_ms: tuple[float, ...]  # percentiles 1 to 99 of the delays
    plain_hundredths_ms: tuple[float, ...]


class Transport(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    redis_version: str
    seconds: float
    machine: dict[str, Any]
    points: tuple[Point, ...]
    commits: Commits | None


def measure(loads: Sequence[Load], seconds: float, commits: int) -> Transport:
    """Measure each load for `seconds`, on a Redis and a worker of its own; then `commits` in a tick (0: none)."""
    machine = machine_facts()
    points = []
    for load in loads:
        with redis_server() as server:
            points.append(asyncio.run(_point(server.url, load, seconds)))
    with redis_server() as server:
        speed = asyncio.run(commit_speed(server.url, commits, seconds)) if commits else None
    return Transport(server.version, seconds, machine, tuple(points), speed)


async def _point(url: str, load: Load, seconds: float) -> Point:
    plain = await delays_ms(url, load, seconds, Plain())
    worker = NullWorker(url)
    try:
        async with connected(url) as redis:
            await create_sessions(redis, load)
            start_s, cpus = time.monotonic(), (worker.report().cpu_s, await redis_cpu_s(redis))
            delays = await delays_ms(url, load, seconds, Served())
            words = worker.report().target_words
            spent_s = time.monotonic() - start_s
            worker_cpu, redis_cpu = worker.report().cpu_s - cpus[0], await redis_cpu_s(redis) - cpus[1]
    finally:
        worker.stop()
    hundredths, plain_hundredths = _hundredths(delays), _hundredths(plain)
    return Point(
        sessions=load.sessions,
        words_per_s=round(words / spent_s, 1),
        p50_ms=hundredths[49],
        p99_ms=hundredths[98],
        plain_p50_ms=plain_hundredths[49],
        plain_p99_ms=plain_hundredths[98],
        num_delays=len(delays),
        worker_cpu=round(worker_cpu / spent_s, 3),
        redis_cpu=round(redis_cpu / spent_s, 3),
        hundredths_ms=hundredths,
        plain_hundredths_ms=plain_hundredths,
    )


async def create_sessions(redis: Redis, load: Load) -> None:
    """Open all sessions before the first word, so that creation delays none."""
    pipe = redis.pipeline(transaction=False)
    for session in range(load.sessions):
        Served().create(pipe, session)
    await pipe.execute()
    async with asyncio.timeout(_START_LIMIT_S):
        for session in range(load.sessions):
            await redis.xread({Served().key(session): "0-0"}, block=round(1000 * _START_LIMIT_S / 20))


def _hundredths(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in quantiles(values, n=100, method="inclusive"))


def page(report: Transport) -> Page:
    """Lay the report out."""
    columns = ("sessions", "words/s", "p50 ms", "p99 ms", "plain 50", "plain 99", "worker", "redis")
    sheets = (Sheet(columns, tuple(map(_cells, report.points))),) if report.points else ()
    title = "Words through Redis and a worker whose engine answers at once"
    return Page(title, sheets, tuple(_notes(report)), _plot(report.points) if report.points else None)


def _plot(points: Sequence[Point]) -> Plot:
    lines = {f"{point.sessions:,} sessions, {point.words_per_s:,.0f} words/s": point.hundredths_ms for point in points}
    lines |= {f"{name}, Redis alone": point.plain_hundredths_ms for name, point in zip(lines, points, strict=True)}
    return Plot(
        x="% of the words",
        y="under way at most, ms",
        lines={name: tuple(enumerate(delays, 1)) for name, delays in lines.items()},
        has_log_y=True,
    )


def _cells(point: Point) -> tuple[str, ...]:
    delays = (point.p50_ms, point.p99_ms, point.plain_p50_ms, point.plain_p99_ms)
    return (
        f"{point.sessions:,}",
        f"{point.words_per_s:,.0f}",
        *(f"{delay:,.1f}" for delay in delays),
        f"{point.worker_cpu:.0%}",
        f"{point.redis_cpu:.0%}",
    )


def _notes(report: Transport) -> Iterator[str]:
    yield "From the append of a source word to the read of its target word; plain: written to a stream, read from it."
    yield f"Words of {WATCHED} of the sessions are read back. Worker and redis: of one core."
    if (commits := report.commits) is not None:
        yield (
            f"Commits, {commits.per_tick} in a pipeline: {commits.commits_per_s:,} a second, {commits.redis_us:.0f} µs "
            f"of Redis each; plain appends: {commits.xadds_per_s:,} a second."
        )
    yield f"redis-server {report.redis_version} on this machine, {report.seconds:g} s for each figure."

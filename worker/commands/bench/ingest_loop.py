"""The ingest of source words by a worker's sessions, compared with the same events in Redis alone."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from producers import Publisher
from protocol import InputTextAppend, Limits, Session, encode
from protocol.keys import EVENT_FIELD
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.transport_load import connected
from worker.commands.bench.transport_process import NullWorker, redis_server
from worker.commands.faults import CommandError

SESSION: Final = Session(mode="completion", segmentation="manual", limits=Limits(max_backlog_words=1_000_000))
"""The options of a session that translates nothing before the segment ends."""

_WORDS_PER_EVENT: Final = 10
_EVENTS_PER_CALL: Final = 256  # the number of `decalage send`
_PUBLISHERS_AT_ONCE: Final = 8
_POLL_S: Final = 0.02
_PATIENCE_S: Final = 120.0


class Point(msgspec.Struct, frozen=True):
    """The figures for one number of words and of sessions."""

    sessions: int
    words: int
    words_per_s: float  # from the first append to the last word that the worker has taken
    plain_words_per_s: float  # the same events, appended to streams without a reader
    worker_cpu_us: float  # of the worker, for each word


class Ingest(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    redis_version: str
    machine: dict[str, Any]
    points: tuple[Point, ...]


def measure(sessions: Sequence[int], words: Sequence[int]) -> Ingest:
    """Measure every number of words with every number of sessions, each on a Redis and a worker of its own.

    Raises CommandError if a worker does not start, or does not finish in time.
    """
    machine, points, version = machine_facts(), [], ""
    for num_sessions in sessions:
        for num_words in words:
            with redis_server() as server:
                version = server.version
                points.append(asyncio.run(_point(server.url, num_sessions, max(num_words, num_sessions))))
    return Ingest(version, machine, tuple(points))


async def _point(url: str, num_sessions: int, num_words: int) -> Point:
    shares = [len(range(i, num_words, num_sessions)) for i in range(num_sessions)]
    async with connected(url) as redis:
        plain_s = await _append_plain(redis, shares)
        worker = NullWorker(url)
        try:
            publishers = [Publisher(redis, f"bench-{i}", SESSION) for i in range(num_sessions)]
            await _share_out([publisher.create() for publisher in publishers])
            before_s, start_s = worker.report().cpu_s, time.perf_counter()
            await _share_out([_append(publisher, share) for publisher, share in zip(publishers, shares, strict=True)])
            await _until_taken(worker, num_words)
            spent_s, cpu_s = time.perf_counter() - start_s, worker.report().cpu_s - before_s
        finally:
            worker.stop()
    return Point(
        sessions=num_sessions,
        words=num_words,
        words_per_s=round(num_words / spent_s),
        plain_words_per_s=round(num_words / plain_s),
        worker_cpu_us=round(1e6 * cpu_s / num_words, 2),
    )


def _events(num_words: int) -> Iterator[InputTextAppend]:
    # The worker's vocabulary has only numbers as words; the first four are special tokens.
    words = [str(4 + i % 1000) for i in range(num_words)]
    for start in range(0, num_words, _WORDS_PER_EVENT):
        yield InputTextAppend(text=" ".join(words[start : start + _WORDS_PER_EVENT]))


def _calls(num_words: int) -> Iterator[list[InputTextAppend]]:
    events = list(_events(num_words))
    for start in range(0, len(events), _EVENTS_PER_CALL):
        yield events[start : start + _EVENTS_PER_CALL]


async def _append(publisher: Publisher, num_words: int) -> None:
    for events in _calls(num_words):
        await publisher.send(*events)


async def _append_plain(redis: Redis, shares: Sequence[int]) -> float:
    async def append(key: str, num_words: int) -> None:
        for events in _calls(num_words):
            pipe = redis.pipeline(transaction=False)
            for event in events:
                pipe.xadd(key, {EVENT_FIELD: encode(event)})
            await pipe.execute()

    start_s = time.perf_counter()
    await _share_out([append(f"plain:{i}", share) for i, share in enumerate(shares)])
    return time.perf_counter() - start_s


async def _share_out(calls: Sequence[Any]) -> None:
    # A few at a time, in order, because a connection for each call would be measured instead of the worker.
    limit = asyncio.Semaphore(_PUBLISHERS_AT_ONCE)

    async def limited(call: Any) -> None:
        async with limit:
            await call

    await asyncio.gather(*map(limited, calls))


async def _until_taken(worker: NullWorker, num_words: int) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while (count := worker.report().source_words) < num_words:
        if time.monotonic() > end_s:
            raise CommandError(f"the worker has taken {count} of {num_words} words in {_PATIENCE_S:g} s, and no more")
        await asyncio.sleep(_POLL_S)


def page(report: Ingest) -> Page:
    """Lay the report out."""
    columns = ("sessions", "words", "words/s", "Redis alone", "ratio", "worker µs/word")
    notes = (
        f"Events of {_WORDS_PER_EVENT} words, up to {_EVENTS_PER_CALL} to a round trip; from the first append to "
        "the last word that the worker has taken.",
        f"redis-server {report.redis_version} on this machine.",
    )
    return Page(
        "Source words into a worker", (Sheet(columns, tuple(map(_cells, report.points))),), notes, _plot(report)
    )


def _cells(point: Point) -> tuple[str, ...]:
    return (
        f"{point.sessions:,}",
        f"{point.words:,}",
        f"{point.words_per_s:,.0f}",
        f"{point.plain_words_per_s:,.0f}",
        f"{point.words_per_s / point.plain_words_per_s:.2f}",
        f"{point.worker_cpu_us:.1f}",
    )


def _plot(report: Ingest) -> Plot:
    lines: dict[str, tuple[tuple[float, float], ...]] = {}
    for point in report.points:
        name = f"{point.sessions:,} session{'s' * (point.sessions > 1)}"
        lines[name] = (*lines.get(name, ()), (point.words, point.words_per_s))
    return Plot(x="words", y="words a second", lines=lines, has_log_x=True, has_log_y=True)

"""The delay of words through WebSockets, beside that of words by Redis alone; and the gateway's memory."""

import asyncio
from statistics import quantiles
from typing import Any

import msgspec

from worker.commands.bench.gateway_load import Listeners, Speakers
from worker.commands.bench.gateway_process import GatewayProcess
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.transport_load import Load, Served, connected, delays_ms
from worker.commands.bench.transport_loop import create_sessions
from worker.commands.bench.transport_process import NullWorker, redis_server
from worker.commands.faults import CommandError
from worker.commands.gateway import raise_file_limit


class GatewayReport(msgspec.Struct, frozen=True):
    """The figures of one run. A delay lasts from before a word is sent to after its target word is received."""

    sessions: int
    words_per_s: float  # of all sessions, as spoken
    p50_ms: float  # through WebSockets
    p99_ms: float
    redis_p50_ms: float  # the same sessions and words by XADD and XREAD
    redis_p99_ms: float
    added_p50_ms: float
    added_p99_ms: float
    num_delays: int
    gateway_cpu: float  # of one core
    websocket_kib: float  # of the gateway's memory, for each
    listeners: int
    listener_kib: float | None
    hundredths_ms: tuple[float, ...]  # percentiles 1 to 99 of the delays
    redis_hundredths_ms: tuple[float, ...]
    seconds: float
    machine: dict[str, Any]


def measure(load: Load, seconds: float, *, num_listeners: int) -> GatewayReport:
    """Measure the load by Redis alone, then through a gateway, each with a Redis and a worker of its own."""
    raise_file_limit()
    machine = machine_facts()
    with redis_server() as server:
        by_redis = asyncio.run(_by_redis(server.url, load, seconds))
    with redis_server() as server:
        worker = NullWorker(server.url)
        try:
            with GatewayProcess(server.url) as gateway:
                return asyncio.run(
                    _report(gateway, load, seconds, num_listeners=num_listeners, by_redis=by_redis, machine=machine)
                )
        finally:
            worker.stop()


async def _by_redis(url: str, load: Load, seconds: float) -> list[float]:
    worker = NullWorker(url)
    try:
        async with connected(url) as redis:
            await create_sessions(redis, load)
        return await delays_ms(url, load, seconds, Served())
    finally:
        worker.stop()


async def _report(
    gateway: GatewayProcess,
    load: Load,
    seconds: float,
    *,
    num_listeners: int,
    by_redis: list[float],
    machine: dict[str, Any],
) -> GatewayReport:
    empty_kib = gateway.memory_kib()
    async with Speakers(gateway.url, load) as speakers:
        full_kib = gateway.memory_kib()
        start_cpu_s = gateway.cpu_s()
        delays = await speakers.delays_ms(seconds)
        cpu_s = gateway.cpu_s() - start_cpu_s
        before_kib = gateway.memory_kib()
        async with Listeners(gateway.url, speakers.session_ids, num_listeners):
            listener_kib = kib_each(gateway.memory_kib() - before_kib, num_listeners)
    ours, theirs = _hundredths(delays), _hundredths(by_redis)
    return GatewayReport(
        sessions=load.sessions,
        words_per_s=load.sessions * load.words_per_s,
        p50_ms=ours[49],
        p99_ms=ours[98],
        redis_p50_ms=theirs[49],
        redis_p99_ms=theirs[98],
        added_p50_ms=round(ours[49] - theirs[49], 3),
        added_p99_ms=round(ours[98] - theirs[98], 3),
        num_delays=len(delays),
        gateway_cpu=round(cpu_s / seconds, 3),
        websocket_kib=round((full_kib - empty_kib) / load.sessions, 1),
        listeners=num_listeners,
        listener_kib=listener_kib,
        hundredths_ms=ours,
        redis_hundredths_ms=theirs,
        seconds=seconds,
        machine=machine,
    )


def kib_each(kib: float, number: int) -> float | None:
    """Return the share of each; None for nobody."""
    return round(kib / number, 1) if number else None


def _hundredths(values: list[float]) -> tuple[float, ...]:
    if len(values) < 2:
        raise CommandError(f"only {len(values)} words came in time to be measured; give more --seconds")
    return tuple(round(value, 3) for value in quantiles(values, n=100, method="inclusive"))


def page(report: GatewayReport) -> Page:
    """Lay the report out."""
    columns = ("way", "p50 ms", "p99 ms")
    rows = (
        ("WebSocket", f"{report.p50_ms:.1f}", f"{report.p99_ms:.1f}"),
        ("Redis", f"{report.redis_p50_ms:.1f}", f"{report.redis_p99_ms:.1f}"),
        ("added", f"{report.added_p50_ms:.1f}", f"{report.added_p99_ms:.1f}"),
    )
    notes = [
        f"{report.sessions:,} sessions, {report.words_per_s:,.0f} words a second, {report.seconds:g} s; one gateway, "
        f"{report.gateway_cpu:.0%} of a core, {report.websocket_kib:.0f} KiB for each WebSocket.",
        "From the sending of a source word to the receipt of its target word; the worker's engine answers at once.",
    ]
    if report.listener_kib is not None:
        notes.append(f"{report.listeners:,} idle listeners by server-sent events: {report.listener_kib:.0f} KiB each.")
    lines = {"WebSocket": report.hundredths_ms, "Redis": report.redis_hundredths_ms}
    plot = Plot(
        x="% of the words",
        y="under way at most, ms",
        lines={name: tuple(enumerate(delays, 1)) for name, delays in lines.items()},
        has_log_y=True,
    )
    return Page("Words through the gateway", (Sheet(columns, rows),), tuple(notes), plot)

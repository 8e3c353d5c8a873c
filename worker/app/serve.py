"""`decalage serve`: the life of a worker process, with its signals and metrics."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator

import structlog

from protocol import WaitK
from worker.app.config import Settings
from worker.app.engine_thread import Engine
from worker.app.worker import Worker
from worker.engine.text.card import Card
from worker.io import client
from worker.io.broker import ensure_broker
from worker.io.health import Probes
from worker.io.metrics import Metrics

SWITCH_S = 0.0005


async def serve(settings: Settings, *, on_ready: Callable[[Worker, str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain; end the process at once on a second signal.

    Calls `on_ready` with the worker and the URL of its Redis before it takes sessions. Before that, raises
    RedisUnreachable, BrokerError, PortTaken, and the errors of loading the model.
    """
    log = structlog.get_logger()
    url = settings.redis or (await asyncio.to_thread(ensure_broker)).url
    version = await _check_redis(url)
    metrics = Metrics()
    probes = Probes(metrics.registry)
    port = probes.serve(settings.metrics_host, settings.metrics_port) if settings.metrics_port >= 0 else None
    log.info("loading", model=settings.model, draft_model=settings.draft_model or None)
    engine = await Engine.start(settings.model, settings.draft_model, settings.max_kv_bytes, kv_bits=settings.kv_bits)
    try:
        log.info("model", **model_facts(engine.card))
        worker = Worker(settings, engine, metrics, url)
        probes.ask = worker.health.condition
        with _signals(worker.stop):
            log.info(
                "ready",
                redis=client.shown(url),
                redis_version=version,
                worker=worker.name,
                model=engine.description,
                kv_bits=settings.kv_bits or None,
                metrics=None if port is None else f"http://{settings.metrics_host}:{port}/metrics",
            )
            with serving():
                if on_ready is not None:
                    on_ready(worker, url)
                await worker.run()
        log.info("drained")
    finally:
        engine.stop()


def model_facts(card: Card) -> dict[str, str]:
    """Return how sessions are translated unless they ask for another policy, and what was measured of it."""
    return {
        "layout": "contiguous" if card.is_contiguous else "group",
        "policy": f"wait-{WaitK().k}",
        "measured": card.measured or "nothing for this model; `decalage evaluate` measures it",
    }


async def _check_redis(url: str) -> str:
    async with client.connect(url) as redis:
        return await client.check(redis)


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Exclude all loaded objects from garbage collection, and let threads take turns every SWITCH_S seconds.

    The engine's thread runs Python for milliseconds at a time to build its graphs. By default, an event loop that Redis
    has woken would wait 5 ms for it.
    """
    before_s = sys.getswitchinterval()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    heard = 0

    def hear() -> None:
        nonlocal heard
        heard += 1
        if heard > 1:
            os._exit(130)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

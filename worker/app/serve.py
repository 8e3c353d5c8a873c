"""`decalage serve`: a worker from its settings to its last word, with signals and metrics."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import structlog

from worker.app import interpreter
from worker.app.config import Settings
from worker.app.engine_thread import Engine
from worker.app.service import Service
from worker.io import client
from worker.io.broker import ensure_broker
from worker.io.health import Probes
from worker.io.metrics import Metrics


async def serve(settings: Settings, *, on_ready: Callable[[Service, str], None] | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains; a second signal ends the process at once.

    `on_ready` is told the service and the URL of its Redis once sessions are taken. Raises RedisUnreachable,
    BrokerError, PortTaken, and what loading the model raises, before anything is served.
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
        service = Service(settings, engine, metrics, url)
        probes.ask = service.pulse.condition
        with _signals(service.stop):
            log.info(
                "ready",
                redis=client.shown(url),
                redis_version=version,
                worker=service.worker,
                model=engine.description,
                kv_bits=settings.kv_bits or None,
                metrics=None if port is None else f"http://{settings.metrics_host}:{port}/metrics",
            )
            with interpreter.serving():
                if on_ready is not None:
                    on_ready(service, url)
                await service.run()
        log.info("drained")
    finally:
        engine.stop()


async def _check_redis(url: str) -> str:
    async with client.connect(url) as redis:
        return await client.check(redis)


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

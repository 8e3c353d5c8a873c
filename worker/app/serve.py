"""`decalage serve`: the life of a worker process, with its signals and metrics."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import structlog

from protocol import policy_name
from protocol.hosts import authority
from worker.app.config import Settings
from worker.app.engine import Engine
from worker.app.worker import Worker
from worker.engine.adapters.compatibility import Compatibility
from worker.engine.text.card import Card
from worker.io import client
from worker.io.broker import ensure_broker
from worker.io.health import LOADING, Probes
from worker.io.metrics import Metrics

SWITCH_S = 0.0005
_RETRY_S = 0.5
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def serve(settings: Settings, *, on_ready: Callable[[Worker, str], None] | None = None) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C, then drain; end the process at once on a second SIGTERM or Ctrl-C.

    Calls `on_ready` with the worker and the URL of its Redis before it takes sessions. Before that, raises
    RedisUnreachable, BrokerError, PortTaken, and the errors of loading the model.
    """
    log = structlog.get_logger()
    url = settings.redis or (await asyncio.to_thread(ensure_broker)).url
    redis = client.connect(url)
    metrics = Metrics()
    probes = Probes(metrics.registry)
    port = probes.serve(settings.metrics_host, settings.metrics_port) if settings.metrics_port >= 0 else None
    version = await _await_redis(redis, settings.redis_wait_ms / 1000)
    probes.ask = lambda: LOADING
    log.info("loading", model=settings.model, draft_model=settings.draft_model or None)
    engine = await Engine.start(settings.model, settings.draft_model, settings.max_kv_bytes, kv_bits=settings.kv_bits)
    try:
        log.info("model", **model_facts(engine.card, engine.compatibility))
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
                metrics=None if port is None else f"http://{authority(settings.metrics_host, port)}/metrics",
            )
            with serving():
                if on_ready is not None:
                    on_ready(worker, url)
                await worker.run()
        log.info("drained")
    finally:
        engine.stop()


async def _await_redis(redis: client.Client, limit_s: float) -> str:
    # Return the version of the Redis once it answers: the services of a host may start in any order.
    log, end_s, has_told = structlog.get_logger(), time.monotonic() + limit_s, False
    async with redis:
        while True:
            try:
                version = await client.check(redis)
                break
            except client.NoAnswer as error:
                if time.monotonic() + _RETRY_S > end_s:
                    raise
                if not has_told:
                    log.warning("waiting_for_redis", seconds=limit_s, reason=str(error))
                has_told = True
            await asyncio.sleep(_RETRY_S)
        if risk := await client.eviction_risk(redis):
            log.warning("redis_may_evict", reason=risk)
    return version


def model_facts(card: Card, compatibility: Compatibility) -> dict[str, str]:
    """Return how sessions are translated unless they ask for another policy, what was measured of it, and why sessions
    cannot share a pass, if they cannot.
    """
    facts = {
        "layout": "contiguous" if card.is_contiguous else "group",
        "policy": policy_name(card.default_policy),
        "measured": card.measured or "nothing for this model; `decalage evaluate` measures it",
    }
    if not compatibility.batches_rows:
        facts["one_session_a_pass"] = compatibility.reason
    return facts


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
    is_stopping = False

    def hear(number: signal.Signals) -> None:
        nonlocal is_stopping
        # A terminal that closes sends SIGHUP twice, and systemd may send it after SIGTERM: it never ends the drain.
        if is_stopping and number is not signal.SIGHUP:
            os._exit(130)
        is_stopping = True
        stop()

    # `nohup` has a program ignore SIGHUP.
    numbers = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, hear, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

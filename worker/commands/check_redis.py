"""The doctor's check of Redis: the given one, or the broker that the commands share."""

import asyncio
import os

from protocol.redis_url import parse_redis_url
from worker.commands.findings import Finding
from worker.io import client
from worker.io.broker import default_runtime_dir, read_record, wanted_kind
from worker.io.servers import find_redis_servers

_REMEDY = "pip install 'decalage[broker]', or name a running Redis with --redis"


def redis(given: str | None) -> Finding:
    """Check whether Redis answers, and its version; start no broker. Raises BrokerError for an invalid variable."""
    if url := given or os.environ.get("DECALAGE_REDIS"):
        try:
            return _answering(url, asyncio.run(_version(url)), "")
        except client.RedisUnreachable as error:
            return Finding("redis", "failed", str(error), facts={"url": client.shown(url)})
    record = read_record(default_runtime_dir())
    if record is not None:
        try:
            return _answering(record.url, asyncio.run(_version(record.url)), "the embedded broker, ")
        except client.RedisUnreachable:
            pass  # the broker has ended
    return _startable()


def _answering(url: str, version: str, what: str) -> Finding:
    parsed = parse_redis_url(url)
    facts = {"url": parsed.address, "version": version, "embedded": bool(what)}
    text = f"{what}Redis {version} answers at {parsed.address}"
    if parsed.overridden:
        text += f"; {', '.join(parsed.overridden)} of the URL have no effect, Decalage sets them itself"
    return Finding("redis", "ok", text, facts=facts)


async def _version(url: str) -> str:
    async with client.connect(url) as redis:
        return await client.check(redis)


def _startable() -> Finding:
    """Describe the server that the embedded broker would start."""
    import importlib.util

    kind = wanted_kind()
    servers = [] if kind == "fakeredis" else find_redis_servers()
    if servers:
        facts = {"embedded": True, "kind": "redis-server", "path": str(servers[0])}
        return Finding("redis", "ok", f"none running; the embedded broker will be {servers[0]}", facts=facts)
    has_fake = all(importlib.util.find_spec(name) for name in ("fakeredis", "lupa"))
    if has_fake and kind != "redis-server":
        text = "none running, no redis-server here; the embedded broker will be fakeredis, which is slow"
        return Finding("redis", "warning", text, _REMEDY, {"embedded": True, "kind": "fakeredis"})
    return Finding("redis", "failed", "none running, and no redis-server here for an embedded broker", _REMEDY)

"""The doctor's check of Redis: the given one, or the broker that the commands share."""

import asyncio
import os
from typing import Any

from protocol.redis_url import parse_redis_url
from worker.commands.findings import Finding
from worker.io import client, rehearsal
from worker.io.broker import default_runtime_dir, read_record, wanted_kind
from worker.io.servers import find_redis_servers

_POLICY = "redis-cli CONFIG SET maxmemory-policy noeviction"
_RULES = "~decalage:* +@read +@write +@scripting +@connection +info +time"
_RULES_OF = {
    "worker": (
        "~decalage:{*}:source ~decalage:{*}:target ~decalage:{*}:state ~decalage:{workers}:* +evalsha +exists +expire "
        "+get +hdel +hget +hgetall +hmget +hset +info +pexpire +scan +script|load +set +time +ttl +xadd +xrange +xread "
        "+xrevrange +zadd +zrange +zrem +zremrangebyscore"
    ),
    "producer": (
        "~decalage:{*}:source %R~decalage:{*}:target ~decalage:{workers}:bell:* %R~decalage:{workers}:shards +exists "
        "+expire +get +xadd +xread +xrevrange"
    ),
    "subscriber": "%R~decalage:{*}:target +xread +xrevrange",
    "gateway": (
        "~decalage:{*}:source %R~decalage:{*}:target ~decalage:{workers}:bell:* ~decalage:{workers}:configure "
        "%R~decalage:{workers}:live %R~decalage:{workers}:shards %R~decalage:{workers}:stats "
        "~decalage:{gateway}:wake:* +expire +get +hgetall +xadd +xrange +xread +xrevrange"
    ),
}
"""The least rules of each role of `rehearsal.ROLES`, as deploy/README.md shows them."""
_REMEDY = "pip install 'decalage[broker]', or name a running Redis with --redis"


def redis(given: str | None, role: str | None = None) -> Finding:
    """Check that Redis answers and lets Decalage do all that it does there, in this role; start no broker.

    Raises BrokerError for an invalid variable.
    """
    if url := given or os.environ.get("DECALAGE_REDIS"):
        try:
            return asyncio.run(_examined(url, "", role))
        except client.RedisUnreachable as error:
            return Finding("redis", "failed", str(error), facts={"url": client.shown(url)})
    record = read_record(default_runtime_dir())
    if record is not None:
        try:
            return asyncio.run(_examined(record.url, "the embedded broker, ", role))
        except client.RedisUnreachable:
            pass  # the broker has ended
    return _startable()


async def _examined(url: str, what: str, role: str | None) -> Finding:
    """Try all that this role does, or all roles. Raises RedisUnreachable."""
    async with client.connect(url) as redis:
        parsed = parse_redis_url(url)  # which `connect` could read
        version = await client.check(redis)
        facts: dict[str, Any] = {"url": parsed.address, "version": version, "embedded": bool(what)}
        text = f"{what}Redis {version} answers at {parsed.address}"
        if parsed.overridden:
            text += f"; {', '.join(parsed.overridden)} of the URL have no effect, Decalage sets them itself"
        try:
            denied = await rehearsal.denials(redis, role)
            risk = await client.eviction_risk(redis)
        except client.GONE as error:
            remedy = "let it accept writes: free memory or disk, or name the master"
            return Finding("redis", "failed", f"{text}, but cannot serve now: {error}", remedy, facts)
    if denied:
        user = parsed.username or "default"
        facts["denied"] = denied
        remedy = f"ACL SETUSER {user} {_RULES_OF[role] if role else _RULES}"
        return Finding("redis", "failed", f"{text}, but denies to the user {user}: {', '.join(denied)}", remedy, facts)
    if risk:
        return Finding("redis", "warning", f"{text}; {risk}", _POLICY, facts)
    return Finding("redis", "ok", text, facts=facts)


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

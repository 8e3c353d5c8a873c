"""The entry of a chaos worker: `decalage serve` with a jumping clock, counting scripts and a status file.

The counts are in each session's state hash: `audit_stale` counts commits accepted although the session had another
owner, `audit_fenced` refused ones. SIGUSR1 moves the clock by a quarter of an hour, back and forth.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the clock must be wrong before anything of the worker is loaded
    from worker.app.worker import Worker
    from worker.io.scripts import Script

_JUMP_S: Final = 900
_STATUS_S: Final = 0.1
_MAX_STARTS: Final = 20
_RESTART_S: Final = 0.5
_AUDITED: Final = """
local function commit()
{script}
end
local answer = commit()
local is_stale = redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1]
if answer == 'FENCED' then
  redis.call('HINCRBY', KEYS[1], 'audit_fenced', 1)
elseif is_stale then
  redis.call('HINCRBY', KEYS[1], 'audit_stale', 1)
end
return answer
"""
BROKEN: Final = {
    "none": [],
    "fence": [("~= epoch then", "== 'nobody' then")],
    "ids": [("if seq > last then", "if true then"), ("string.format('%d-0', seq), unpack", "'*', unpack")],
}
"""Replacements in the commit script, by the protection that they remove."""


def skew_clock(skew_s: float) -> None:
    """Skew this process's wall clock, and make it jump at each SIGUSR1; leave the monotonic clock right."""
    true_ns, offset_ns = time.time_ns, round(skew_s * 1e9)
    jumps = itertools.cycle((_JUMP_S, -2 * _JUMP_S, _JUMP_S))

    def jump(*_: object) -> None:
        nonlocal offset_ns
        offset_ns += next(jumps) * 1_000_000_000

    time.time_ns = lambda: true_ns() + offset_ns
    time.time = lambda: (true_ns() + offset_ns) / 1e9
    signal.signal(signal.SIGUSR1, jump)


def audited(script: Callable[[str], "Script"], broken: str) -> Callable[[str], "Script"]:
    """Return a loader of scripts whose `commit` counts, and lacks the protection that `broken` names.

    Raises ValueError where the script has no such protection.
    """

    def changed(name: str) -> "Script":
        original = script(name)
        if name != "commit":
            return original
        text = original.text
        for old, new in BROKEN[broken]:
            if old not in text:
                raise ValueError(f"expected {old!r} in the commit script: adapt what chaos breaks of it")
            text = text.replace(old, new)
        return type(original).of(_AUDITED.format(script=text))

    return changed


async def _tell(worker: "Worker", path: Path) -> None:
    # Write the file whole and often: after a SIGKILL the last one counts.
    registry = worker.metrics.registry
    names = ("fenced_commits", "duplicates", "replayed_words", "target_words")
    while True:
        counters = {name: registry.get_sample_value(f"decalage_{name}_total") for name in names}
        sessions = [handle.session_id for handle in worker.table if handle.is_open]
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({"pid": os.getpid(), "counters": counters, "sessions": sessions}))
        draft.replace(path)
        await asyncio.sleep(_STATUS_S)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--lease-ms", type=int, required=True)
    parser.add_argument("--status", type=Path, required=True)
    parser.add_argument("--skew-s", type=float, default=0.0)
    parser.add_argument("--broken", choices=BROKEN, default="none")
    parser.add_argument("--closed-ttl-s", type=int, help="how long the keys of a closed session stay")
    args = parser.parse_args()
    skew_clock(args.skew_s)
    from worker.app.config import Settings
    from worker.app.serve import serve
    from worker.io import logs, scripts, store
    from worker.io.client import RedisUnreachable

    logs.configure("info", json=True)
    vars(store)["script"] = audited(scripts.script, args.broken)
    if args.closed_ttl_s is not None:
        vars(store)["CLOSED_TTL_S"] = args.closed_ttl_s
    told: list[asyncio.Task[None]] = []

    def ready(worker: "Worker", _: str) -> None:
        told.append(asyncio.get_running_loop().create_task(_tell(worker, args.status)))

    settings = Settings(redis=args.redis, model=args.model, lease_ms=args.lease_ms, metrics_port=-1)
    for _ in range(_MAX_STARTS):
        try:
            return asyncio.run(serve(settings, on_ready=ready))
        except RedisUnreachable as error:  # the network was cut as it started: a supervisor starts it again
            print(error, file=sys.stderr)
            time.sleep(_RESTART_S)
    sys.exit(1)


if __name__ == "__main__":
    main()

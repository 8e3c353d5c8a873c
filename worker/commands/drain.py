"""`decalage drain`: ask workers to finish, to hand their sessions over, and to end."""

import argparse
import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from worker.commands import arguments
from worker.commands.faults import CommandError

if TYPE_CHECKING:
    from worker.io.client import Client
    from worker.io.leases import Leases, Seen

HELP: Final = "stop workers: they finish, hand their sessions over and exit"
USAGE: Final = "[WORKER] [options]"
EXAMPLES: Final = """\
WORKER is the name in its log and in `worker.stats`. The exit status is 0 when all have left, 1 if one has not left in
time.

Examples:
  decalage drain
  decalage drain mini-3:4711:093612 --redis redis://localhost:6379/0 --json"""


@dataclass(frozen=True)
class Left:
    """The outcome for one worker."""

    worker: str
    sessions: int  # open at the request
    shards: int  # held at the request
    has_left: bool
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage drain`."""
    parser.add_argument("worker", nargs="?", metavar="WORKER", help="stop only this one (default: all)")
    parser.add_argument(
        "--timeout",
        type=arguments.number(0, is_open=True),
        default=30.0,
        metavar="S",
        help="how long to wait for them (default: 30)",
    )
    arguments.add_redis(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Drain the workers and print the outcome; return 0 if all of them have left, else 1."""
    from worker.commands.broker_url import redis_url
    from worker.commands.output import print_json

    outcome = asyncio.run(drain(redis_url(args.redis), args.worker, args.timeout))
    if args.json:
        print_json({"workers": [asdict(worker) for worker in outcome]})
    for worker in [] if args.json else outcome:
        end = f"has left after {worker.seconds:.1f} s" if worker.has_left else "HAS NOT LEFT"
        print(f"{worker.worker}  {worker.sessions} sessions, {worker.shards} shards  {end}")
    if not (outcome or args.json):
        print("no worker runs here")
    return 0 if all(worker.has_left for worker in outcome) else 1


async def drain(url: str, worker: str | None, timeout_s: float) -> list[Left]:
    """Ask all workers or one to drain, and wait until they have left or the time is up.

    Raises CommandError for a worker that does not run.
    """
    from worker.io import client
    from worker.io.leases import Leases, num_shards

    async with client.connect(url) as redis:
        await client.check(redis)
        leases = Leases(redis, "decalage-drain", await num_shards(redis), 1)
        before = await leases.exchange(None)
        if worker is not None and worker not in before.peers:
            running = ", ".join(sorted(before.peers)) or "none"
            raise CommandError(f"no worker named {worker!r} runs here; running: {running}", code="no_worker")
        names = [worker] if worker is not None else sorted(before.peers)
        return await _drain(redis, leases, before, names=names, timeout_s=timeout_s)


async def _drain(
    redis: "Client", leases: "Leases", before: "Seen", *, names: list[str], timeout_s: float
) -> list[Left]:
    from protocol import WorkerConfigure, encode
    from protocol.keys import CONFIGURE_KEY, EVENT_FIELD, FREED_KEY
    from worker.io.replies import entries

    newest = entries(await redis.ask("XREVRANGE", FREED_KEY, "+", "-", "COUNT", 1))
    last = newest[0][0] if newest else "0-0"
    start_s = time.monotonic()
    for name in names:
        event = encode(WorkerConfigure(worker=name, drain=True))
        await redis.ask("XADD", CONFIGURE_KEY, "MAXLEN", "~", 1_000, "*", EVENT_FIELD, event)
    gone: dict[str, float] = {}
    while len(gone) < len(names) and time.monotonic() - start_s < timeout_s:
        for _, news in await redis.ask("XREAD", "BLOCK", 500, "STREAMS", FREED_KEY, last) or ():
            last = entries(news)[-1][0]
        peers = (await leases.exchange(None)).peers
        gone |= {name: time.monotonic() - start_s for name in names if name not in peers and name not in gone}
    return [_left(name, before, gone) for name in names]


def _left(name: str, before: "Seen", gone: Mapping[str, float]) -> Left:
    shards = sum(lease.owner == name for lease in before.leases)
    return Left(name, before.peers[name].sessions, shards, name in gone, round(gone.get(name, 0.0), 3))

"""`make chaos`: talks under faults on every real Redis of this machine, compared with the same talks without faults."""

import argparse
import asyncio
import json
import logging
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from tests.chaos.choices import clear_talks
from tests.chaos.faults import SMALL, Fault, Kind, make_plan
from tests.chaos.model import write_tiny_model
from tests.chaos.report import Report, lines, report
from tests.chaos.run import Setup, run
from tests.servers import real_servers

_CLUSTER: Final = "cluster"
_LARGE: Final[dict[Kind, int]] = {"kill": 4, "stop": 2, "hold": 2, "restart": 2, "leave": 2}
_LARGE_OF_CLUSTER: Final[dict[Kind, int]] = {"kill": 2, "stop": 1, "restart": 2, "leave": 1}
"""Faults for a cluster: no proxy stands between it and its clients."""

_FEWER_IN_CLUSTER: Final = 5
"""A cluster gets fewer sessions, by this factor: each client asks the cluster for all its commands, which costs the one
process with all speakers 0.1 s. The factor shares no divisor with the number of manners.
"""

_WORKERS = 3
_LEASE_MS = 3_000
_WORDS_PER_S = 0.5


def main() -> int:
    """Run the chaos test; return 0 if every stream is the same as without faults."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--sessions", type=int, default=200)
    names = [*real_servers(), _CLUSTER]
    parser.add_argument("--servers", nargs="+", default=names, choices=names)
    parser.add_argument("--keep", type=Path, help="a folder for data and logs")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if args.seed is None else args.seed
    logging.getLogger("producers").setLevel(logging.ERROR)  # Redis goes away on purpose
    print(f"SEED={seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="decalage-chaos-") as temporary:
        reports = asyncio.run(_all(seed, args.sessions, args.servers, args.keep or Path(temporary)))
    if args.json:
        print(json.dumps({"seed": seed, "reports": msgspec.to_builtins(reports)}))
    else:
        print("\n".join(lines(reports, seed)))
    return int(any(entry.problems for entry in reports))


async def _all(seed: int, num_sessions: int, names: list[str], directory: Path) -> list[Report]:
    plan, short = _plan(seed, _LARGE), _plan(seed, _LARGE_OF_CLUSTER, small=["jump"])
    model = write_tiny_model(_folder(directory / "model"))
    talks = clear_talks(model, seed, num_sessions, round(0.9 * plan[-1].at_s * _WORDS_PER_S))
    newest = list(real_servers().values())[-1]
    setup = Setup(program=newest, model=model, directory=_folder(directory / "clean"), seed=seed)
    clean = await run(setup, talks)
    print(f"without faults: {clean.seconds:.0f} s", file=sys.stderr, flush=True)
    if clean.failures:  # no streams to compare with
        raise SystemExit(f"the run without faults has failed: {'; '.join(clean.failures[:3])}")
    reports: list[Report] = []
    for name in names:
        is_cluster = name == _CLUSTER
        chosen = short if is_cluster else plan
        faulty = msgspec.structs.replace(
            setup,
            program=real_servers().get(name, newest),
            is_cluster=is_cluster,
            directory=_folder(directory / name),
            plan=chosen,
            words_per_s=_WORDS_PER_S * plan[-1].at_s / chosen[-1].at_s,
            workers=_WORKERS,
            lease_ms=_LEASE_MS,
        )
        fewer = talks[:: _FEWER_IN_CLUSTER if is_cluster else 1]
        reports.append(report(name, clean, await run(faulty, fewer), lease_ms=_LEASE_MS))
    return reports


def _plan(seed: int, large: dict[Kind, int], small: Sequence[Kind] = SMALL) -> list[Fault]:
    return make_plan(Random(seed), [kind for kind, number in large.items() for _ in range(number)], small)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


if __name__ == "__main__":
    sys.exit(main())

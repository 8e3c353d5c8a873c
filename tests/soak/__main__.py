"""`make soak`: sessions come and go for some minutes, while memory, keys and connections must stay flat."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tests.chaos.model import write_tiny_model
from tests.servers import real_servers
from tests.soak.run import Setup, soak
from tests.soak.samples import LIMITS, Sample, growth, problems

_ROWS = 20


def main() -> int:
    """Run the soak; return 0 if all figures stayed flat."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--sessions", type=int, default=20, help="at once")
    parser.add_argument("--server", default=next(iter(real_servers())), choices=list(real_servers()))
    parser.add_argument("--png", type=Path, help="a file for curves")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="decalage-soak-") as temporary:
        data, model = Path(temporary) / "data", Path(temporary) / "model"
        data.mkdir()
        model.mkdir()
        seconds = 60 * args.minutes
        setup = Setup(
            program=real_servers()[args.server],
            model=write_tiny_model(model),
            directory=data,
            seconds=seconds,
            sessions=args.sessions,
            every_s=max(1.0, seconds / 300),
        )
        samples, failures = asyncio.run(soak(setup))
    complaints = failures + problems(samples)
    if args.png:
        _draw(samples, args.png)
    if args.json:
        print(json.dumps({"samples": msgspec.to_builtins(samples), "growth": growth(samples), "problems": complaints}))
    else:
        print("\n".join(lines(samples, complaints)))
    return int(bool(complaints))


def lines(samples: Sequence[Sample], found: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the report for people."""
    yield f"{'s':>6} {'sessions':>9} {'workers MB':>11} {'redis MB':>9} {'connections':>12} {'keys':>6}"
    for sample in samples[:: max(1, len(samples) // _ROWS)]:
        sizes = f"{sample.worker_bytes / 2**20:>11.1f} {sample.redis_bytes / 2**20:>9.2f}"
        yield f"{sample.at_s:>6.0f} {sample.sessions:>9,} {sizes} {sample.connections:>12} {sample.keys:>6}"
    factors = ", ".join(f"{name} {factor:.2f} (at most {LIMITS[name]:.2f})" for name, factor in growth(samples).items())
    yield f"last third to middle third: {factors}"
    yield from (f"FAILED: {problem}" for problem in found)


def _draw(samples: Sequence[Sample], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(LIMITS), sharex=True, figsize=(8, 8))
    for axis, name in zip(axes, LIMITS, strict=True):
        axis.plot([sample.at_s for sample in samples], [getattr(sample, name) for sample in samples])
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("seconds")
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())

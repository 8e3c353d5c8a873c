"""`decalage bench transport`: the cost of Redis and the worker, without a model."""

import argparse
from typing import Final

from worker.commands import arguments, output
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "delay and throughput from append to append, with an engine that answers at once"
EXAMPLES: Final = """\
Starts a real redis-server and a worker in a process of its own. The worker is the one that serves, with its bells,
scripts and engine thread; only the model is missing. A load is SESSIONSxWORDS, with the words of each session in a
second.

Examples:
  decalage bench transport
  decalage bench transport --load 500x2.5 2000x1 --seconds 20 --plot transport.png
  decalage bench transport --load --commits 256"""
LOADS: Final = ((500, 2.5), (2000, 1.0))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench transport`."""
    parser.add_argument(
        "--load",
        type=_load,
        nargs="*",
        default=list(LOADS),
        metavar="NxW",
        help="sessions x words a second (default: 500x2.5 2000x1)",
    )
    parser.add_argument(
        "--seconds", type=arguments.whole(1), default=10, metavar="S", help="seconds of each load (default: 10)"
    )
    parser.add_argument(
        "--commits",
        type=arguments.whole(0),
        default=64,
        metavar="N",
        help="commits in a pipeline, 0: do not measure (default: 64)",
    )
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    with starting(args):
        from worker.commands.bench import transport_loop as loop
        from worker.commands.bench.transport_load import Load
    loads = [Load(sessions, words_per_s) for sessions, words_per_s in args.load]
    with output.busy("Measuring"):
        report = loop.measure(loads, args.seconds, args.commits)
    return finish(args, report, loop.page(report))


def _load(text: str) -> tuple[int, float]:
    sessions, _, words_per_s = text.partition("x")
    try:
        load = int(sessions), float(words_per_s)
    except ValueError:
        load = 0, 0.0
    if not (1 <= load[0] <= 100_000 and 0 < load[1] <= 1000):
        raise argparse.ArgumentTypeError(f"expected SESSIONSxWORDS_A_SECOND like 500x2.5, got {text!r}")
    return load

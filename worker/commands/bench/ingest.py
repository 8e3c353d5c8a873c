"""`decalage bench ingest`: the speed of source words into a worker, by their number."""

import argparse
from typing import Final

from worker.commands import arguments, output
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "source words a second from publishers into a worker's sessions"
EXAMPLES: Final = """\
A real redis-server, started for this, and a worker of its own process, whose model answers at once. The words of a
session are one segment, and nothing is written before it ends: what is measured is the way in. A line that falls with
the number of words is a cost that grows with them.

Examples:
  decalage bench ingest
  decalage bench ingest --words 1000 100000 --sessions 1 --plot ingest.png"""
WORDS: Final = (1_000, 10_000, 100_000, 1_000_000)
SESSIONS: Final = (1, 500)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench ingest`."""
    parser.add_argument(
        "--words",
        type=arguments.whole(1),
        nargs="+",
        default=list(WORDS),
        metavar="N",
        help=f"words of all sessions together (default: {' '.join(map(str, WORDS))})",
    )
    parser.add_argument(
        "--sessions",
        type=arguments.whole(1),
        nargs="+",
        default=list(SESSIONS),
        metavar="N",
        help=f"sessions at the same time (default: {' '.join(map(str, SESSIONS))})",
    )
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    with starting(args):
        from worker.commands.bench import ingest_loop as loop
    with output.busy("Measuring"):
        report = loop.measure(args.sessions, args.words)
    return finish(args, report, loop.page(report))

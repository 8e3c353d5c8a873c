"""`decalage bench gateway`: what the gateway adds to the delay of words, and the memory of a connection."""

import argparse
from typing import Final

from worker.commands import arguments, output
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "delay that the gateway adds to Redis and the worker, and its memory for a connection"
EXAMPLES: Final = """\
Starts a real redis-server, a worker whose engine answers at once, and a gateway, each in a process of its own. Each
session is a WebSocket through which words go in and out; then listeners by server-sent events wait in silence.

Examples:
  decalage bench gateway
  decalage bench gateway --sessions 100 --listeners 0 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench gateway`."""
    parser.add_argument(
        "--sessions", type=arguments.whole(1, 10_000), default=500, metavar="N", help="WebSockets (default: 500)"
    )
    arguments.add_pace(parser, default=arguments.SPEECH_WORDS_PER_S, is_zero_allowed=False)
    parser.add_argument(
        "--listeners", type=arguments.whole(0, 50_000), default=2_000, metavar="N", help="idle ones (default: 2000)"
    )
    parser.add_argument(
        "--seconds", type=arguments.whole(1), default=10, metavar="S", help="seconds of speech (default: 10)"
    )
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    with starting(args):
        from worker.commands.bench import gateway_loop as loop
        from worker.commands.bench.transport_load import Load
    with output.busy("Measuring"):
        report = loop.measure(Load(args.sessions, args.pace), args.seconds, num_listeners=args.listeners)
    return finish(args, report, loop.page(report))

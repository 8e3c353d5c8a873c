"""`decalage bench turns`: the latency of words at the end of a long session, compared with its beginning."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "word latency over many turns of long sessions, and the memory that sessions take"
EXAMPLES: Final = """\
A turn is a sentence of a session. All sessions hear a word at the same moment, and the next word when they have written
what they can. The latency of a word counts from the moment when the word it waited for was heard. The baseline of the
last turns are the first turns of as many new sessions with the same sentences, in alternation with them.

Examples:
  decalage bench turns
  decalage bench turns --turns 30 --sessions 2 --plot turns.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench turns`."""
    options.add_model(parser)
    options.add_session(parser, any_policy=False)
    whole = arguments.whole
    parser.add_argument("--turns", type=whole(2), default=150, metavar="N", help="turns of each session (default: 150)")
    parser.add_argument(
        "--sessions", type=whole(1), default=8, metavar="N", help="sessions at the same time (default: 8)"
    )
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    sentences = options.read_text(args)
    with starting(args):
        from worker.commands.bench import turns_loop as loop
        from worker.commands.bench.models import harness
    workload = loop.Workload(args.turns, args.sessions)
    measured = harness(args.model, args.shape, args.kv_bits or 0)
    report = loop.measure(measured, options.session(args), sentences, workload)
    return finish(args, report, loop.page(report))

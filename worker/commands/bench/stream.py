"""`decalage bench stream`: words a second of many sessions that read and write at once."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "words a second of streaming sessions, alone and together"
EXAMPLES: Final = """\
Each session translates the sentences of the demo's talk (or of --file), whose words are all there from the start, with
the sessions, scheduler and engine that serve; only Redis is left out. With --shape, the words and the accepted drafts
are those of the shipped model.

With several values of --layout, the layouts take turns with the same words and accepted drafts: those that the model
writes in its own layout, recorded before. Only the cost is measured, not what a model would write in another layout.

Examples:
  decalage bench stream
  decalage bench stream --sessions 1 64 --wait-k 5 --json
  decalage bench stream --shape smollm2-135m --plot stream.png
  decalage bench stream --shape qwen2.5-0.5b --layout group contiguous"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench stream`."""
    options.add_model(parser)
    options.add_layout(parser, several=True)
    options.add_session(parser)
    whole = arguments.whole
    parser.add_argument(
        "--sessions",
        type=whole(1),
        nargs="+",
        default=[1, 8, 32],
        metavar="N",
        help="sessions at the same time (1 8 32)",
    )
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    sentences = [" ".join(words) for words in options.read_text(args)]
    with starting(args):
        from worker.commands.bench import stream_loop as loop
        from worker.commands.bench.models import harness
    report = loop.measure(
        harness(args.model, args.shape, args.kv_bits or 0),
        options.session(args),
        sentences,
        args.sessions,
        args.layout,
    )
    return finish(args, report, loop.page(report))

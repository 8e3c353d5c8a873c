"""`decalage bench decode`: tokens a second of many sessions that only write, beside mlx-lm's batched decoding."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "tokens a second of pure decoding at 1 to 64 sessions, beside mlx-lm's batched decoding"
ROWS: Final = (1, 2, 4, 8, 16, 32, 64)
EXAMPLES: Final = """\
Every session has read its source; each pass writes one token for all of them, without drafts. In turns with it, mlx-lm
decodes the same number of prompts of the same length with its own batch cache.

Examples:
  decalage bench decode
  decalage bench decode --shape smollm2-135m --rows 1 8 32 --steps 10 --plot decode.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench decode`."""
    whole = arguments.whole
    options.add_model(parser)
    parser.add_argument(
        "--rows", type=whole(1, 512), nargs="+", default=list(ROWS), metavar="N", help="sessions in a pass"
    )
    parser.add_argument(
        "--source", type=whole(1), default=32, metavar="N", help="source tokens of a session (default: 32)"
    )
    parser.add_argument("--steps", type=whole(1), default=32, metavar="N", help="tokens to measure (default: 32)")
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    with starting(args):
        from worker.commands.bench import decode_loop as loop
        from worker.commands.bench.models import load
    report = loop.measure(
        *load(args.model, args.shape, args.kv_bits or 0), args.rows, loop.Workload(args.source, args.steps)
    )
    return finish(args, report, loop.page(report))

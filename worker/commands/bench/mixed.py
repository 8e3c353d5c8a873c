"""`decalage bench mixed`: the number of people who can speak at once before their words come late."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "how many people may speak at once before their words come late"
EXAMPLES: Final = """\
Speakers start at random moments. Each speaks the talk once at a steady pace, then another one takes the place, so their
number stays the same and no two are in step. The delay of a word counts from the moment when the last word it waited
for was spoken. Time to compute is real, time to wait for speakers is skipped. The baseline gives every session a pass
of its own.

Examples:
  decalage bench mixed
  decalage bench mixed --seconds 60 --plot speakers.png
  decalage bench mixed --speakers 10 50 --seed 2 --json
  decalage bench mixed --speakers 10 50 100 --batch-timeout-ms 50"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench mixed`."""
    whole, number = arguments.whole, arguments.number
    options.add_model(parser)
    options.add_session(parser)
    add = parser.add_argument
    add(
        "--speakers",
        type=whole(1),
        nargs="+",
        metavar="N",
        help="try these numbers instead of searching for the largest",
    )
    add("--seconds", type=number(1), default=20.0, metavar="S", help="seconds of speech for each number (default: 20)")
    add(
        "--limit-ms",
        type=number(0, is_open=True),
        default=300.0,
        metavar="MS",
        help="largest p95 delay of a word (default: 300)",
    )
    arguments.add_pace(parser, default=arguments.SPEECH_WORDS_PER_S, is_zero_allowed=False)
    add("--max-batch-size", type=whole(1), default=64, metavar="N", help="sessions in a pass (default: 64)")
    add("--max-draft-tokens", type=whole(0), default=16, metavar="N", help="as for serve; 0: no drafts (default: 16)")
    add(
        "--batch-timeout-ms",
        type=whole(0, 10_000),
        default=0,
        metavar="MS",
        help="as for serve, measured beside 0 (default: 0)",
    )
    add("--seed", type=whole(0), default=0, metavar="S", help="seed of who speaks when (default: 0)")
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    sentences = options.read_text(args)
    with starting(args):
        from worker.commands.bench import mixed_loop as loop
        from worker.commands.bench.models import harness
    workload = loop.Workload(
        args.seconds,
        args.pace,
        args.limit_ms,
        args.seed,
        args.max_batch_size,
        args.max_draft_tokens,
        args.batch_timeout_ms,
    )
    measured = harness(args.model, args.shape, args.kv_bits or 0)
    scenario = loop.Scenario(measured, options.session(args), sentences, workload)
    report = loop.measure(scenario, args.speakers)
    return finish(args, report, loop.page(report))

"""`decalage bench table`: the table of mlx-parallm's document, measured here."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting
from worker.commands.faults import CommandError

HELP: Final = "whole prompts: baseline, speculative, batching, both; beside mlx-parallm's own figures"
EXAMPLES: Final = """\
Each request is a sentence that is read whole and then written. Drafts come from --draft-model. Without one they are
forced: taken from a record of what will be written, so that a share of --acceptance comes true. Forced drafts cost
nothing unless --draft-shape runs the passes of a draft model with random weights. The four methods take turns. More
rounds make the gain of drafts more certain, and the cost of finding out where they pay smaller.

Examples:
  decalage bench table
  decalage bench table --shape qwen2.5-0.5b --draft-shape smollm2-135m --requests 16 --plot table.png
  decalage bench table --draft-model ./small --max-draft-tokens 8 --json
  decalage bench table --draft-model ./small --rounds 20 --everywhere"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench table`."""
    whole = arguments.whole
    options.add_model(parser)
    arguments.add_to(parser, default="fr")
    options.add_file(parser)
    parser.add_argument("--batch", type=whole(2, 512), default=8, metavar="N", help="requests in a batch (default: 8)")
    parser.add_argument("--requests", type=whole(1), default=32, metavar="N", help="requests in a round (default: 32)")
    parser.add_argument(
        "--rounds", type=whole(1, 1000), default=4, metavar="N", help="rounds of each method (default: 4)"
    )
    drafts = parser.add_argument_group("drafts")
    drafts.add_argument("--draft-model", metavar="M", help="a smaller model with the same tokenizer")
    drafts.add_argument(
        "--draft-shape", choices=options.SHAPES, help="charge forced drafts with the passes of this shape"
    )
    drafts.add_argument(
        "--acceptance",
        type=arguments.number(0, 1),
        metavar="R",
        help="share of forced drafts that come true (default: 0.8)",
    )
    drafts.add_argument(
        "--max-draft-tokens", type=whole(1, 64), default=5, metavar="N", help="drafts in one pass (default: 5)"
    )
    drafts.add_argument("--everywhere", action="store_true", help="draft in every pass, even where it does not pay")
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    if args.draft_model is not None and (args.acceptance is not None or args.draft_shape is not None):
        raise CommandError("--draft-model drafts by itself; give it, or --acceptance and --draft-shape")
    sentences = [" ".join(words) for words in options.read_text(args)]
    with starting(args):
        from protocol import Session
        from worker.commands.bench import table_loop as loop
        from worker.commands.bench.models import harness
        from worker.commands.bench.table_drafts import Drafts
    acceptance = 0.8 if args.acceptance is None else args.acceptance
    drafts = Drafts(args.draft_model, args.draft_shape, acceptance, args.everywhere)
    workload = loop.Workload(args.batch, args.requests, args.rounds, args.max_draft_tokens, drafts)
    session = Session(target_language=args.to, mode="completion")
    report = loop.measure(harness(args.model, args.shape, args.kv_bits or 0), session, sentences, workload)
    return finish(args, report, loop.page(report))

"""`decalage bench table`: the table of mlx-parallm's document, measured here."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting
from worker.commands.faults import CommandError

HELP: Final = "whole prompts: baseline, speculative, batching, both; beside mlx-parallm's own figures"
EXAMPLES: Final = """\
Each request is a sentence that is read whole and then written. Drafts come from --draft-model, or from a record of what
will be written, so spoiled that --acceptance of them come true; those cost nothing, unless --draft-shape makes the
passes of a draft model with random weights for them. The four take turns. What drafts gain is the surer the more rounds
there are, and the less it has cost to find out where they pay.

Examples:
  decalage bench table
  decalage bench table --shape qwen2.5-0.5b --draft-shape smollm2-135m --requests 16 --plot table.png
  decalage bench table --draft-model ./small --max-draft-tokens 8 --json
  decalage bench table --draft-model ./small --rounds 20 --everywhere"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows the options of `decalage bench table`."""
    whole = arguments.whole
    options.add_model(parser)
    parser.add_argument("--to", type=arguments.language, default="fr", metavar="LANG", help="(default: fr)")
    parser.add_argument("--text", metavar="FILE", help="other sentences than those of the demo's talk")
    parser.add_argument("--batch", type=whole(2, 512), default=8, metavar="N", help="requests at once (default: 8)")
    parser.add_argument("--requests", type=whole(1), default=32, metavar="N", help="in a round (default: 32)")
    parser.add_argument("--rounds", type=whole(1, 1000), default=4, metavar="N", help="of each way (default: 4)")
    drafts = parser.add_argument_group("drafts")
    drafts.add_argument("--draft-model", metavar="M", help="a smaller model with the same tokenizer")
    drafts.add_argument("--draft-shape", choices=options.SHAPES, help="makes the passes for the forced drafts")
    drafts.add_argument(
        "--acceptance", type=arguments.number(0, 1), metavar="R", help="of the forced drafts (default: 0.8)"
    )
    drafts.add_argument("--max-draft-tokens", type=whole(1, 64), default=5, metavar="N", help="(default: 5)")
    drafts.add_argument("--everywhere", action="store_true", help="in every pass, also where they do not pay")
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """0, once the figures are printed."""
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

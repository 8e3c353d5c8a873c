"""`decalage bench reprompt`: the savings of the dual cache over prompting again with the whole text for every word."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "cost of a word, beside prompting again with the whole text for every word"
AT: Final = (10, 30, 100, 300, 500, 1000)
EXAMPLES: Final = """\
One segment grows by a word at a time; at some lengths, the next target words are measured. The baseline does what a
chat model without a dual cache must do: mlx-lm fills a fresh cache with prompt, source, end of the source and target so
far, then decodes the word and the token behind it, which shows that the word has ended. Both write the same words, the
model's own translation of the sentences one after the other, with as many accepted drafts as there were then. So a text
can be longer than any segment the model was made for, at its true cost.

With --sessions N, N segments hear the same text, a word each at a time, and share their passes as in serving; a figure
is the time until all N have their word. The baseline fills N fresh caches in one batch, then decodes N words in one
batch, as a server with continuous batching but without a prefix cache does. As the N texts are the same, no token of
its batch is padding.

Examples:
  decalage bench reprompt
  decalage bench reprompt --shape qwen2.5-0.5b --at 10 100 500 --words 4 --plot reprompt.png
  decalage bench reprompt --shape qwen2.5-0.5b --layout contiguous --sessions 8 --at 10 30 60"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench reprompt`."""
    whole = arguments.whole
    options.add_model(parser)
    options.add_layout(parser)
    options.add_session(parser, any_policy=False)
    add = parser.add_argument
    add(
        "--at",
        type=whole(2, 10_000),
        nargs="+",
        default=list(AT),
        metavar="N",
        help="source words read when to measure (10 to 1000)",
    )
    add("--words", type=whole(1), default=8, metavar="N", help="target words to measure at each (default: 8)")
    add(
        "--sessions",
        type=whole(1, 512),
        default=1,
        metavar="N",
        help="segments that grow together, in the same passes (default: 1)",
    )
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print the figures; return 0."""
    sentences = options.read_text(args)
    with starting(args):
        from worker.commands.bench import reprompt_loop as loop
        from worker.commands.bench.models import harness
    session = options.session(args)
    workload = loop.Workload(tuple(args.at), args.words, args.sessions, args.layout)
    report = loop.measure(harness(args.model, args.shape, args.kv_bits or 0), session, sentences, workload)
    return finish(args, report, loop.page(report))

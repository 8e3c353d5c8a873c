"""`decalage bench stream`: words a second of many sessions that read and write at once."""

import argparse
from typing import Final

from worker.commands import arguments, output

HELP: Final = "words a second of streaming sessions, alone and together"
EXAMPLES: Final = """\
Each session translates the sentences of the demo's talk (or of --text), its words all there from the start, by the
same sessions, scheduler and engine that serve; Redis is left out.

Examples:
  decalage bench stream
  decalage bench stream --sessions 1 64 --wait-k 5 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows the options of `decalage bench stream`."""
    whole = arguments.whole
    arguments.add_model(parser)
    parser.add_argument("--to", type=arguments.language, default="fr", metavar="LANG", help="(default: fr)")
    parser.add_argument("--wait-k", type=arguments.wait_k, default=3, metavar="K", help="(default: 3)")
    parser.add_argument("--sessions", type=whole(1), nargs="+", default=[1, 8, 32], metavar="N", help="at once")
    parser.add_argument("--text", metavar="FILE", help="other sentences, one a line")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """0, once the figures are printed."""
    output.silence_libraries()
    from worker.commands.demo import read_sentences

    sentences = [" ".join(words) for words in read_sentences(args.text)]
    with output.busy("Starting the engine"):
        from protocol import Session, WaitK
        from worker.commands import bench_stream_loop as loop
    session = Session(target_language=args.to, policy=WaitK(k=args.wait_k))
    report = loop.measure(args.model, session, sentences, args.sessions)
    if args.json:
        from msgspec import to_builtins

        output.print_json_line(to_builtins(report))
        return 0
    loop.show(report)
    return 0

"""`decalage bench`: benchmarks of this machine, a module each, built like a command's.

A benchmark measures in its module `…_loop`, which may import slow packages.
"""

import argparse
import importlib
from typing import Final

HELP: Final = "measure how fast this machine translates and trains"
USAGE: Final = "WHAT [options]"
EXAMPLES: Final = """\
`decalage bench WHAT --help` tells the options of a benchmark.

Examples:
  decalage bench stream
  decalage bench mixed --plot speakers.png
  decalage bench decode --shape smollm2-135m --json"""

NAMES: Final = ("decode", "stream", "turns", "reprompt", "mixed", "table", "train", "transport", "gateway", "ingest")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all benchmarks and the options of each."""
    parts = parser.add_subparsers(title="benchmarks", prog=parser.prog, metavar="WHAT", required=True)
    for name in NAMES:
        bench = importlib.import_module(f"worker.commands.bench.{name}")
        part = parts.add_parser(
            name,
            help=bench.HELP,
            description=bench.HELP,
            epilog=bench.EXAMPLES,
            usage=f"{parser.prog} {name} [options]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        bench.add_arguments(part)
        part.set_defaults(run=bench.run)


def run(args: argparse.Namespace) -> int:
    """Return the exit status of the chosen benchmark."""
    return int(args.run(args))

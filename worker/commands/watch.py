"""`decalage watch`: `producers.watch` on the given Redis or the embedded broker."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.broker_url import redis_url

HELP: Final = "show the translation of a session as it is written"
USAGE: Final = "[SESSION] [options]"
EXAMPLES: Final = """\
Examples:
  decalage watch
  decalage watch talk-1 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage watch`."""
    from producers import watch

    watch.add_arguments(parser)
    arguments.add_redis(parser)


def run(args: argparse.Namespace) -> int:
    """Run `producers.watch` and return its exit status."""
    from producers import watch

    return watch.run(args, redis_url(args.redis))

"""`decalage send`: `producers.send`, with the broker found."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.broker_url import redis_url

HELP: Final = "send a text, a file or standard input as the source words of a session"
USAGE: Final = "[TEXT ...] [options]"
EXAMPLES: Final = """\
Examples:
  decalage send --watch Where is the station?
  decalage send --file talk.txt --pace 2.5 --to de
  some-speech-recogniser | decalage send --session talk-1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows the options of `decalage send`."""
    from producers import send

    send.add_arguments(parser)
    arguments.add_redis(parser)


def run(args: argparse.Namespace) -> int:
    """The exit status of `producers.send`."""
    from producers import send

    return send.run(args, redis_url(args.redis))

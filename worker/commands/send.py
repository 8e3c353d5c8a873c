"""`decalage send`: `producers.send` on the given Redis or the embedded broker."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.broker_url import redis_url
from worker.commands.session_options import add_session_arguments, given_options, session_of

HELP: Final = "send a text, a file or standard input as the source words of a session"
USAGE: Final = "[TEXT ...] [options]"
EXAMPLES: Final = """\
Examples:
  decalage send --watch Where is the station?
  decalage send --file talk.txt --pace 2.5 --to de
  some-speech-recogniser | decalage send --session talk-1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage send`."""
    text = parser.add_argument_group("text")
    text.add_argument("text", nargs="*", metavar="TEXT", help="what to send (default: standard input, line by line)")
    text.add_argument("--file", metavar="FILE", help="send this UTF-8 file; a blank line ends a segment")
    arguments.add_pace(text, default=0.0)
    add_session_arguments(parser)
    end = parser.add_argument_group("session and output")
    end.add_argument("--session", metavar="ID", help="join this session, or open it under this id (default: a new id)")
    end.add_argument("--keep-open", action="store_true", help="leave the session open (default if it was joined)")
    end.add_argument("--close", action="store_true", help="close the session even if it was joined")
    end.add_argument("--watch", action="store_true", help="show the translation until the session closes")
    arguments.add_json(end, "print one JSON object about what was sent; with --watch, the events follow")
    arguments.add_redis(parser)


def run(args: argparse.Namespace) -> int:
    """Run `producers.send` and return its exit status."""
    from producers import send

    options = send.Options(session_of(args), tuple(given_options(args)))
    return send.run(args, redis_url(args.redis), options)

"""`decalage watch`: show the translation of a session as it is made."""

import argparse
import math

from producers.connection import broker_errors, open_writer
from producers.console import follow, run_command, say, worker_hint
from producers.errors import SessionNotFound
from producers.subscriber import Subscriber
from producers.tail import newest_session
from producers.transcript import JsonLines, Transcript


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage watch`, apart from `--redis`."""
    parser.add_argument("session", nargs="?", metavar="SESSION", help="the session's id (default: the newest session)")
    parser.add_argument(
        "--after", type=event_number, default=0, metavar="N", help="skip the first N events (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print each event as one line of JSON")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="give up after S seconds without an event (default: wait)"
    )


def run(args: argparse.Namespace, url: str) -> int:
    """Show the session at this broker. Return 0 when it has closed, 1 for an error, 130 for Ctrl-C."""
    return run_command(_watch(args, url), as_json=args.json)


async def _watch(args: argparse.Namespace, url: str) -> int:
    session_id: str = args.session or await _newest(url)
    view = JsonLines() if args.json else Transcript()
    async with Subscriber(url, session_id, after=args.after, timeout_s=args.timeout) as events:
        return await follow(events, view, hint=worker_hint(events.address))


async def _newest(url: str) -> str:
    link = open_writer(url)
    try:
        with broker_errors(link.address):
            session_id = await newest_session(link.client)
    finally:
        await link.close()
    if session_id is None:
        raise SessionNotFound(
            f"expected a session at {link.address}, got none: open one with `decalage send`, then watch it"
        )
    say(f"session {session_id}")
    return session_id


def event_number(text: str) -> int:
    """Parse a whole number from 0 on. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Parse a number above 0. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value

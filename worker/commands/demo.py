"""`decalage demo`: a broker, a worker, a speaker and a listener in one command."""

import argparse
import asyncio
import secrets
import sys
from pathlib import Path
from typing import Final

from worker.commands import arguments
from worker.commands.faults import CommandError
from worker.commands.output import busy, silence_libraries
from worker.commands.talk import TALK, Words, split_sentences

HELP: Final = "watch a talk being translated while it is spoken; starts everything it needs"

EXAMPLES: Final = """\
Examples:
  decalage demo --to de                      the same talk in German
  decalage demo --wait-k 1                   less lag, worse guesses
  decalage demo --text speech.txt --pace 120
  decalage demo --fast --json > talk.json
"""

_WORDS_PER_MINUTE: Final = 150.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows the options of the demo."""
    parser.add_argument(
        "--to", type=arguments.language, default="fr", metavar="LANG", help="target language (default: fr)"
    )
    parser.add_argument(
        "--wait-k", type=arguments.wait_k, default=3, metavar="K", help="words to stay behind the speaker (default: 3)"
    )
    parser.add_argument("--text", metavar="FILE", help="speak this English text, not our talk; - reads standard input")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--pace",
        type=arguments.number(0, is_open=True),
        default=_WORDS_PER_MINUTE,
        metavar="WPM",
        help="words spoken a minute (default: 150)",
    )
    speed.add_argument("--fast", action="store_true", help="speak as fast as the worker translates")
    arguments.add_model(parser)
    arguments.add_redis(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """0 after the whole talk, 130 after Ctrl-C, 143 after SIGTERM.

    Raises CommandError, and what broker, worker, publisher and subscriber raise.
    """
    sentences = read_sentences(args.text)
    silence_libraries()
    with busy("Loading the engine …"):  # the slow imports
        from worker.app.config import from_environment
        from worker.commands.demo_show import show
        from worker.commands.demo_stage import Plan

    settings = from_environment(redis=args.redis, model=args.model)
    plan = Plan(
        sentences=sentences,
        target_language=args.to,
        k=args.wait_k,
        pace=None if args.fast else args.pace,
        session_id=f"demo-{secrets.token_hex(2)}",
    )
    return asyncio.run(show(plan, settings, as_json=args.json))


def read_sentences(path: str | None) -> tuple[Words, ...]:
    """The sentences of the file, of standard input (`-`), or of our talk (None). Raises CommandError, OSError."""
    if path is None:
        return split_sentences(TALK)
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        sentences = split_sentences(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CommandError(f"expected UTF-8 in {path}, got other bytes at {error.start}; convert the file") from error
    if not sentences:
        raise CommandError(f"expected words in {path}, got none; give a text with at least one sentence")
    return sentences

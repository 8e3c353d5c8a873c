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
  decalage demo --policy adaptive-1-5-0.9    write as soon as the model is sure
  decalage demo --file speech.txt --pace 2
  decalage demo --fast --json > talk.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage demo`."""
    arguments.add_to(parser, default="fr")
    arguments.add_policy(parser)
    arguments.add_file(parser, "speak this English text instead of the built-in talk")
    speed = parser.add_mutually_exclusive_group()
    arguments.add_pace(speed, default=arguments.SPEECH_WORDS_PER_S)
    speed.add_argument(
        "--fast", dest="pace", action="store_const", const=0.0, help="speak as fast as the worker translates: --pace 0"
    )
    arguments.add_model(parser)
    arguments.add_redis(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show the talk; return 0 after all of it, 130 after Ctrl-C, 143 after SIGTERM.

    Raises CommandError, and the errors of broker, worker, publisher and subscriber.
    """
    sentences = read_sentences(args.file)
    silence_libraries()
    with busy("Loading the engine …"):  # the slow imports
        from worker.app.config import from_environment
        from worker.commands.demo_show import show
        from worker.commands.demo_stage import Plan

    settings = from_environment(redis=args.redis, model=args.model)
    plan = Plan(
        sentences=sentences,
        target_language=args.to,
        policy=args.policy,
        pace_words_per_s=args.pace,
        session_id=f"demo-{secrets.token_hex(2)}",
    )
    return asyncio.run(show(plan, settings, as_json=args.json))


def read_sentences(path: str | None) -> tuple[Words, ...]:
    """Read the sentences of a file, of standard input (`-`) or of the built-in talk (None).

    Raises CommandError, OSError.
    """
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

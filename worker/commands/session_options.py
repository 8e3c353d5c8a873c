"""The options of a session on the command line, and the Session that they describe."""

import argparse
from typing import TYPE_CHECKING, Any, Final

from worker.commands import arguments

if TYPE_CHECKING:
    from protocol import Limits, Sampling, Session

MAX_BACKLOG_WORDS: Final = 1_000_000
"""Enough for a whole book: unlike a live source, a file is sent all at once."""

DEFAULT_TARGET: Final = "fr"

_SAMPLING: Final = {
    "temp": "temperature",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "repetition_context_size": "repetition_context_size",
    "seed": "seed",
}
_LIMITS: Final = {"max_new_words": "max_new_words", "max_tokens_per_word": "max_tokens_per_word"}
_OTHERS: Final = {
    "to": "--to",
    "source_language": "--from",
    "prompt": "--prompt",
    "policy": "--policy",
    "segmentation": "--segmentation",
}


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all options of a session; each is None unless given."""
    group = parser.add_argument_group("translation")
    arguments.add_to(group, otherwise=f"{DEFAULT_TARGET}, none with --prompt")
    group.add_argument(
        "--from", dest="source_language", type=arguments.language, metavar="LANG", help="source language (default: en)"
    )
    group.add_argument("--prompt", help="instruction for a chat model, such as 'Translate to German:'")
    arguments.add_policy(group)
    group.add_argument(
        "--segmentation",
        choices=("sentence", "manual"),
        help="end a segment at each sentence, or only at a blank line and at the end (default: sentence)",
    )
    arguments.add_sampling(parser)


def given_options(args: argparse.Namespace) -> list[str]:
    """Return the session options that the command line names, such as `--to`."""
    names = _OTHERS | {name: "--" + name.replace("_", "-") for name in (*_SAMPLING, *_LIMITS)}
    return [option for name, option in names.items() if getattr(args, name) is not None]


def sampling_of(args: argparse.Namespace) -> "Sampling":
    """Return the sampling that the options describe."""
    from protocol import Sampling

    return Sampling(**_given(args, _SAMPLING))


def limits_of(args: argparse.Namespace, **others: int) -> "Limits":
    """Return the limits of a session; `others` are those without an option."""
    from protocol import Limits

    return Limits(**_given(args, _LIMITS), **others)


def session_of(args: argparse.Namespace) -> "Session":
    """Return the session that the options describe."""
    from protocol import Session

    # A prompt may name the target language itself.
    target = args.to or (None if args.prompt else DEFAULT_TARGET)
    return Session(
        source_language=args.source_language or "en",
        target_language=target,
        prompt=args.prompt,
        segmentation=args.segmentation or "sentence",
        policy=args.policy,
        sampling=sampling_of(args),
        limits=limits_of(args, max_backlog_words=MAX_BACKLOG_WORDS),
    )


def _given(args: argparse.Namespace, names: dict[str, str]) -> dict[str, Any]:
    return {field: value for name, field in names.items() if (value := getattr(args, name)) is not None}

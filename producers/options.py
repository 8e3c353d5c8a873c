"""The options of a session on the command line, and the Session that they describe."""

import argparse
from typing import Any, Final

from protocol import POLICY_FORMS, Limits, Policy, Sampling, Session, WaitK, parse_policy

MAX_BACKLOG_WORDS: Final = 1_000_000
"""A whole book may be sent at once: unlike a live source, a file cannot be asked to wait."""

DEFAULT_TARGET: Final = "fr"

_SAMPLING: Final = {
    "temp": "temperature",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "repetition_context_size": "repetition_context_size",
    "seed": "seed",
}
_LIMITS: Final = {"max_new_words": "max_new_words", "max_tokens_per_word": "max_tokens_per_word"}
_OTHERS: Final = ("to", "source_language", "prompt", "wait_k", "policy", "segmentation")


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """The parser knows a session's options; one that is not given is None."""
    group = parser.add_argument_group("translation")
    group.add_argument("--to", metavar="LANG", help=f"target language (default: {DEFAULT_TARGET}, none with --prompt)")
    group.add_argument("--from", dest="source_language", metavar="LANG", help="source language (default: en)")
    group.add_argument("--prompt", help="instruction for a chat model, such as 'Translate to German:'")
    when = group.add_mutually_exclusive_group()
    when.add_argument("--wait-k", type=int, metavar="K", help="source words read before the first word (default: 3)")
    when.add_argument("--policy", type=_policy, metavar="P", help=f"another policy: {POLICY_FORMS}")
    group.add_argument(
        "--segmentation",
        choices=("sentence", "manual"),
        help="where a segment ends: at each sentence, or only at a blank line and the end (default: sentence)",
    )
    group.add_argument("--temp", type=float, help="temperature; 0 takes the likeliest word (default: 0)")
    group.add_argument("--top-p", type=float, metavar="P", help="probability mass to choose from (default: 1)")
    group.add_argument("--seed", type=int, help="the same seed gives the same words (default: 0)")
    group.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: repeat less (default: off)")
    group.add_argument("--repetition-context-size", type=int, metavar="N", help="tokens looked back at (default: 20)")
    group.add_argument("--max-new-words", type=int, metavar="N", help="target words per segment (default: no bound)")
    group.add_argument("--max-tokens-per-word", type=int, metavar="N", help="a longer word is cut (default: 50)")


def given_options(args: argparse.Namespace) -> list[str]:
    """The session options that stood on the command line, as they are written there."""
    names = (*_OTHERS, *_SAMPLING, *_LIMITS)
    return ["--" + _written(name) for name in names if getattr(args, name) is not None]


def session_of_options(args: argparse.Namespace) -> Session:
    """The Session that the options describe; its values are checked when it is sent."""
    # A prompt may name the target language itself.
    target = args.to or (None if args.prompt else DEFAULT_TARGET)
    fields: dict[str, Any] = {"target_language": target, "prompt": args.prompt}
    if args.source_language is not None:
        fields["source_language"] = args.source_language
    if args.wait_k is not None:
        fields["policy"] = WaitK(k=args.wait_k)
    if args.policy is not None:
        fields["policy"] = args.policy
    return Session(
        segmentation=args.segmentation or "sentence",
        sampling=Sampling(**_renamed(args, _SAMPLING)),
        limits=Limits(max_backlog_words=MAX_BACKLOG_WORDS, **_renamed(args, _LIMITS)),
        **fields,
    )


def _policy(name: str) -> Policy:
    try:
        return parse_policy(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _renamed(args: argparse.Namespace, names: dict[str, str]) -> dict[str, Any]:
    return {field: value for name, field in names.items() if (value := getattr(args, name)) is not None}


def _written(name: str) -> str:
    return "from" if name == "source_language" else name.replace("_", "-")

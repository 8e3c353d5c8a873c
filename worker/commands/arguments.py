"""Options that several commands share, and the types of their values."""

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from protocol import Policy

MAX_WAIT_K: Final = 1_000
SPEECH_WORDS_PER_S: Final = 2.5
"""Words a second of an ordinary speaker."""


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers within these bounds."""
    wanted = f"a whole number of at least {minimum}" if maximum is None else f"a whole number, {minimum} to {maximum}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from None
        if value < minimum or (maximum is not None and value > maximum):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return value

    return parse


def number(minimum: float, maximum: float = float("inf"), *, is_open: bool = False) -> Callable[[str], float]:
    """Return a parser of numbers within these bounds; `is_open`: the minimum itself is not allowed."""
    wanted = f"a number {'above' if is_open else 'of at least'} {minimum:g}"
    wanted += "" if maximum == float("inf") else f", at most {maximum:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from None
        # `not (… <= …)` also rejects NaN.
        if not (minimum <= value <= maximum) or value == float("inf") or (is_open and value == minimum):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return value

    return parse


wait_k: Final = whole(1, MAX_WAIT_K)
"""The k of wait-k."""


def policy(text: str) -> "Policy":
    """Parse the name of a read/write policy."""
    from protocol import ProtocolError, Session, SessionCreate, check, parse_policy

    try:
        chosen = parse_policy(text)
        check(SessionCreate(session=Session(policy=chosen)))
    except (ValueError, ProtocolError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return chosen


def language(text: str) -> str:
    """Parse a language's code or English name into its code."""
    from worker.core.languages import language_code

    if not text.strip():
        raise argparse.ArgumentTypeError("expected a language such as fr or German, got nothing")
    return language_code(text.strip())


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add `--model`; the default is $DECALAGE_MODEL, else the model that comes with Decalage."""
    parser.add_argument(
        "--model",
        default=os.environ.get("DECALAGE_MODEL") or "starter",
        metavar="M",
        help="directory, GGUF file, hub id (owner/name) or shipped model (default: %(default)s)",
    )


def add_kv_bits(parser: argparse.ArgumentParser) -> None:
    """Add `--kv-bits`; None unless given."""
    parser.add_argument(
        "--kv-bits",
        type=int,
        choices=(8, 4),
        help="quantise keys and values: a third or a fifth of the memory, but a slower pass (default: off)",
    )


def add_to(
    parser: argparse._ActionsContainer, *, default: str | None = None, otherwise: str = "the one that the prompt names"
) -> None:
    """Add `--to`: the target language; `otherwise` describes the effect of leaving it out if it has no default."""
    parser.add_argument(
        "--to",
        type=language,
        default=default,
        metavar="LANG",
        help=f"target language, such as fr or German (default: {default or otherwise})",
    )


def add_policy(parser: argparse._ActionsContainer, *, otherwise: str = "the model's policy") -> None:
    """Add `--wait-k` and `--policy`, which exclude each other; both set `policy`, None unless given."""
    from protocol import POLICY_FORMS

    group = parser.add_mutually_exclusive_group()
    add_wait_k(group, otherwise=otherwise)
    group.add_argument("--policy", type=policy, metavar="P", help=f"when to write: {POLICY_FORMS}")


def add_wait_k(parser: argparse._ActionsContainer, *, otherwise: str) -> None:
    """Add `--wait-k` alone, for commands without other policies; it sets `policy`, None unless given."""
    from protocol import WaitK

    def wait_k_policy(text: str) -> "Policy":
        return WaitK(k=wait_k(text))

    parser.add_argument(
        "--wait-k",
        dest="policy",
        type=wait_k_policy,
        metavar="K",
        help=f"stay K words behind the speaker; the policy wait-K (default: {otherwise})",
    )


def add_pace(parser: argparse._ActionsContainer, *, default: float, is_zero_allowed: bool = True) -> None:
    """Add `--pace` in words a second; 0, where allowed, means without pauses."""
    at_once = ", 0 for no pauses" if is_zero_allowed else ""
    parser.add_argument(
        "--pace",
        type=number(0, is_open=not is_zero_allowed),
        default=default,
        metavar="WORDS_PER_S",
        help=f"words a second of the speaker{at_once} (default: %(default)g)",
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options of sampling and of the limits; each is None unless given."""
    group = parser.add_argument_group("choice of words")
    group.add_argument("--temp", type=number(0, 10), metavar="T", help="temperature; 0: the likeliest (default: 0)")
    group.add_argument(
        "--top-p", type=number(0, 1, is_open=True), metavar="P", help="probability mass to choose from (default: 1)"
    )
    group.add_argument("--seed", type=whole(0, 2**63 - 1), metavar="N", help="same seed, same words (default: 0)")
    group.add_argument(
        "--repetition-penalty", type=number(0, is_open=True), metavar="R", help="above 1: repeat less (default: off)"
    )
    group.add_argument(
        "--repetition-context-size", type=whole(0, 10_000), metavar="N", help="tokens looked back at (default: 20)"
    )
    group.add_argument("--max-new-words", type=whole(1), metavar="N", help="words per segment (default: no bound)")
    group.add_argument(
        "--max-tokens-per-word", type=whole(1, 1000), metavar="N", help="cut a longer word here (default: 50)"
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Add `--prompt`: a text, or - for standard input."""
    parser.add_argument("--prompt", required=True, metavar="P", help="the text; - reads it from standard input")


def add_file(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--file`: a text to read, or - for standard input."""
    parser.add_argument("--file", metavar="FILE", help=f"{what}; - reads standard input")


def add_json(parser: argparse._ActionsContainer, what: str = "one JSON object on stdout, nothing else") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def add_redis(parser: argparse.ArgumentParser) -> None:
    """Add `--redis`: the URL of Redis."""
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="redis://HOST:PORT/DB (default: $DECALAGE_REDIS, else the broker that this machine's commands share)",
    )

"""Options that several commands share, and the types of their values."""

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from protocol import Policy

MAX_WAIT_K: Final = 1_000


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers within these bounds."""
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
    """A parser of numbers within these bounds; `is_open`: the minimum itself is not allowed."""
    wanted = f"a number {'above' if is_open else 'of at least'} {minimum:g}"
    wanted += "" if maximum == float("inf") else f", at most {maximum:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from None
        # Written so that a value that is not a number at all fails too.
        if not (minimum <= value <= maximum) or value == float("inf") or (is_open and value == minimum):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return value

    return parse


wait_k: Final = whole(1, MAX_WAIT_K)
"""The k of wait-k."""


def policy(text: str) -> "Policy":
    """A read/write policy, from its name."""
    from protocol import ProtocolError, Session, SessionCreate, check, parse_policy

    try:
        chosen = parse_policy(text)
        check(SessionCreate(session=Session(policy=chosen)))
    except (ValueError, ProtocolError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return chosen


def language(text: str) -> str:
    """A language's code, from its code or its English name."""
    from worker.core.languages import language_code

    if not text.strip():
        raise argparse.ArgumentTypeError("expected a language such as fr or German, got nothing")
    return language_code(text.strip())


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`; the default is $DECALAGE_MODEL, else the model that comes with Decalage."""
    parser.add_argument(
        "--model",
        default=os.environ.get("DECALAGE_MODEL") or "starter",
        metavar="M",
        help="directory, GGUF file, hub id (owner/name) or shipped model (default: %(default)s)",
    )


def add_kv_bits(parser: argparse.ArgumentParser) -> None:
    """`--kv-bits`; None where it is not given."""
    parser.add_argument(
        "--kv-bits",
        type=int,
        choices=(8, 4),
        help="quantise keys and values: they take less than a third or a fifth of the memory, and a pass takes longer "
        "(default: no)",
    )


def add_to(parser: argparse.ArgumentParser) -> None:
    """`--to`: the target language."""
    parser.add_argument(
        "--to",
        type=language,
        metavar="LANG",
        help="target language, such as fr or German; not needed where the prompt says 'Translate to …:'",
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """`--prompt`: a text, or - for standard input."""
    parser.add_argument("--prompt", required=True, metavar="P", help="the text; - reads it from standard input")


def add_json(parser: argparse.ArgumentParser, what: str = "one JSON object on stdout, nothing else") -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def add_redis(parser: argparse.ArgumentParser) -> None:
    """`--redis`: where Redis is."""
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="redis://HOST:PORT/DB (default: $DECALAGE_REDIS, else the broker on this machine that the commands share)",
    )

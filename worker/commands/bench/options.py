"""The options that benchmarks share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands import arguments

if TYPE_CHECKING:
    from protocol import Session
    from worker.commands.talk import Words

SHAPES: Final = ("qwen2.5-0.5b", "smollm2-135m")
"""The shapes of models with random weights, named after real models."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, `--shape` and `--kv-bits`."""
    arguments.add_model(parser)
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape in place of --model")
    arguments.add_kv_bits(parser)


def add_layout(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add `--layout`, a name or, with `several`, a list of names; the default, None or [None], is the model's own."""
    parser.add_argument(
        "--layout",
        choices=("group", "contiguous"),
        nargs="+" if several else None,
        default=[None] if several else None,
        help="positions of a segment's tokens (the model's own); words and accepted drafts are always those of its own",
    )


def add_session(parser: argparse.ArgumentParser, *, any_policy: bool = True) -> None:
    """Add `--to`, `--file`, `--wait-k` and, with `any_policy`, `--policy`."""
    arguments.add_to(parser, default="fr")
    (arguments.add_policy if any_policy else arguments.add_wait_k)(parser, otherwise="3")
    add_file(parser)


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add `--file`."""
    arguments.add_file(parser, "translate these sentences instead of the demo's talk")


def read_text(args: argparse.Namespace) -> "tuple[Words, ...]":
    """Return the sentences of `--file`. Raises CommandError, OSError."""
    from worker.commands.demo import read_sentences

    return read_sentences(args.file)


def session(args: argparse.Namespace) -> "Session":
    """Return a session with these options."""
    from protocol import DEFAULT_POLICY, Session

    return Session(target_language=args.to, policy=args.policy or DEFAULT_POLICY)


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add `--json` and `--plot`."""
    arguments.add_json(parser)
    parser.add_argument("--plot", type=_picture, metavar="FILE.png", help="also draw the figures into this file")


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a file that ends in .png, got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, got {text!r}")
    return path

"""Options that benchmarks share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands import arguments

if TYPE_CHECKING:
    from protocol import Session
    from worker.commands.talk import Words

SHAPES: Final = ("qwen2.5-0.5b", "smollm2-135m")
"""Models with random weights, by the names of those whose shapes they have."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`, `--shape` and `--kv-bits`."""
    arguments.add_model(parser)
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape in place of --model")
    arguments.add_kv_bits(parser)


def add_session(parser: argparse.ArgumentParser) -> None:
    """`--to`, `--wait-k` and `--text`."""
    parser.add_argument("--to", type=arguments.language, default="fr", metavar="LANG", help="(default: fr)")
    parser.add_argument("--wait-k", type=arguments.wait_k, default=3, metavar="K", help="(default: 3)")
    parser.add_argument("--text", metavar="FILE", help="other sentences than those of the demo's talk")


def read_text(args: argparse.Namespace) -> "tuple[Words, ...]":
    """The sentences of `--text`. Raises CommandError, OSError."""
    from worker.commands.demo import read_sentences

    return read_sentences(args.text)


def session(args: argparse.Namespace) -> "Session":
    """A session with these options."""
    from protocol import Session, WaitK

    return Session(target_language=args.to, policy=WaitK(k=args.wait_k))


def add_results(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--plot`."""
    arguments.add_json(parser)
    parser.add_argument("--plot", type=_picture, metavar="FILE.png", help="draw the figures into this file, too")


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a file that ends in .png, got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, got {text!r}")
    return path

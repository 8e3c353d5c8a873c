"""`decalage bench train`: the trainer's tokens a second on this machine, beside an equal loop in PyTorch."""

import argparse
from typing import Final

from worker.commands import arguments
from worker.commands.bench import options
from worker.commands.bench.page import finish, starting

HELP: Final = "tokens a second of full training steps, beside PyTorch where it is installed"
EXAMPLES: Final = """\
A step is forward, backward and optimizer, on random pairs and random weights. Where PyTorch is installed, every batch
also goes to the trainer with PyTorch's gradients in bf16 and to an equal plain PyTorch loop in fp32, in turns, from the
same weights; the first losses must agree. OMP_NUM_THREADS limits PyTorch's threads, OPENBLAS_NUM_THREADS those of mlx.

Examples:
  decalage bench train --plot speed.png
  decalage bench train --hidden 512 --heads 8 --mlp 2048 --vocab 16000 --steps 5 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage bench train`."""
    whole = arguments.whole
    add = parser.add_argument
    add("--hidden", type=whole(2), default=256, metavar="N", help="width (default: 256, the shipped model's)")
    add("--layers", type=whole(1), default=6, metavar="N", help="number of layers (default: 6)")
    add("--heads", type=whole(1), default=4, metavar="N", help="attention heads (default: 4)")
    add("--mlp", type=whole(1), default=1024, metavar="N", help="width inside the MLP (default: 1024)")
    add("--vocab", type=whole(16), default=8000, metavar="N", help="size of the vocabulary (default: 8000)")
    add(
        "--tokens-per-batch",
        type=whole(64),
        default=4096,
        metavar="N",
        help="tokens in a batch, padding included (default: 4096)",
    )
    add("--length", type=whole(8), default=20, metavar="N", help="average tokens of a pair (default: 20)")
    add("--steps", type=whole(1), default=10, metavar="N", help="steps to measure, after one that is not (default: 10)")
    options.add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, beside a baseline where PyTorch is installed, and print the figures; return 0."""
    with starting(args):
        from worker.commands.bench.train_loop import measure
        from worker.commands.bench.train_table import page
        from worker.commands.bench.train_work import Workload
        from worker.training.recipe import Shape
    shape = Shape(args.hidden, args.layers, args.heads, args.mlp, args.vocab)
    speeds = measure(Workload(shape, args.tokens_per_batch, args.length, args.steps))
    return finish(args, speeds, page(speeds))

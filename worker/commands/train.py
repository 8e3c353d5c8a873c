"""`decalage train`: parallel text in, a model that the engine serves out."""

import argparse
from pathlib import Path
from typing import Final

from worker.commands import arguments, output

HELP: Final = "train a model on parallel text, as it will be served"
USAGE: Final = (
    "--train FILE ... --valid FILE ... --to LANG --steps N --out DIR [options] | --train ... --pack DIR | "
    "--from-pack DIR --out DIR [options] | --resume --out DIR"
)
EXAMPLES: Final = """\
A FILE is FILE[@LANG][:WEIGHT]: TSV (source, target), .json or .jsonl, gzipped (.gz) or not; an epoch reads each row
WEIGHT times. A name such as x.en-fr.tsv tells LANG, too. Ctrl-C saves a checkpoint and the model; --resume goes on as
if nothing had happened. With --lora the result is a whole model too. OPENBLAS_NUM_THREADS limits the threads of mlx,
OMP_NUM_THREADS those of PyTorch. A --pack holds data, tokenizer and start; --from-pack trains from it alone, with
--device on a machine that has PyTorch and no mlx. --time-limit without --steps, or with --finish, plans the learning
rate to end then.

Examples:
  decalage train --train talks.tsv.gz docs.tsv.gz:0.5 --valid dev.tsv --to fr --steps 5000 --out my-model
  decalage train --train a.tsv@fr b.tsv@de --valid v.tsv@fr --steps 500 --from starter --lr 2e-4 --out tuned
  decalage train --train a.tsv@fr --valid v.tsv@fr --steps 500 --from Qwen/Qwen2.5-0.5B-Instruct --lora 8 --out adapted
  decalage train --train a.tsv@fr --valid v.tsv@fr --steps 9000 --dropout 0.1 --device cpu --out quick
  decalage train --train a.tsv@fr b.tsv@de:0.1 --valid v.tsv@fr --augment 0.1 0.2 0.2 --templates 20000 --pack packed
  decalage train --from-pack packed --device cuda --time-limit 540 --tokens-per-batch 65536 --out large
  decalage train --train a.tsv@fr --valid v.tsv@fr --steps 3000 --draft-of my-model --layers 1 --hidden 128 --out ahead
  decalage train --resume --out my-model"""

_INTERRUPTED: Final = 130
_PACK_MIB: Final = 45


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage train`."""
    whole, number = arguments.whole, arguments.number
    add = parser.add_argument
    add("--train", nargs="+", default=[], metavar="FILE", help="parallel text to learn from")
    add("--valid", nargs="+", default=[], metavar="FILE", help="parallel text to measure the loss on")
    add("--to", type=arguments.language, metavar="LANG", help="target language of files whose name has none")
    add("--out", type=Path, metavar="DIR", help="where model, checkpoint, log and curve go")
    add("--pack", type=Path, metavar="DIR", help="train nothing: write data, tokenizer and start there, to travel")
    add("--pack-mib", type=whole(1), metavar="N", help="with --pack: its largest size (default: 45)")
    add(
        "--pack-epochs",
        type=whole(1),
        metavar="N",
        help="with --pack: the rows that N epochs read of a file with a weight below 1 (default: 1)",
    )
    add("--from-pack", type=Path, metavar="DIR", help="take data and start from there, not from the options for them")
    add("--steps", type=whole(1), metavar="N", help="steps of the optimizer")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--time-limit", type=number(0), metavar="S", help="stop after S seconds, ready to resume")
    add("--finish", action="store_true", help="with --resume and --time-limit: let the learning rate fall by then")
    arguments.add_json(parser, "every event as a JSON line on stdout")
    _add_model(parser)
    _add_data(parser)
    _add_optimizer(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    whole, number = arguments.whole, arguments.number
    group = parser.add_argument_group(
        "model", "--source-language to --max-positions describe a new model, without --from"
    )
    add, add_one = group.add_argument, group.add_mutually_exclusive_group().add_argument
    add_one("--from", dest="start", metavar="M", help="fine-tune this: directory, GGUF file, hub id or shipped model")
    add_one("--draft-of", metavar="M", help="train a draft model for this one, from scratch, with its tokenizer")
    add("--split-digits", action="store_true", help="of --from or --draft-of: make every digit a token of its own")
    add("--lora", type=whole(1), metavar="RANK", help="with --from: train only adapters of this rank, then fuse them")
    add("--lora-layers", type=whole(1), metavar="N", help="adapt only the last N layers (default: all)")
    add("--lora-scale", type=number(0, is_open=True), metavar="S", help="scale of the adapters' output (default: 20)")
    add("--lora-dropout", type=number(0, 0.99), metavar="P", help="dropout of the adapters' input (default: 0)")
    add(
        "--source-language",
        type=arguments.language,
        metavar="LANG",
        help="source language (default: en, or that of --draft-of)",
    )
    add("--hidden", type=whole(2), metavar="N", help="width (default: 256)")
    add("--layers", type=whole(1), metavar="N", help="number of layers (default: 6)")
    add("--heads", type=whole(1), metavar="N", help="attention heads (default: 4)")
    add("--kv-heads", type=whole(1), metavar="N", help="heads of keys and values, shared (default: --heads)")
    add("--mlp", type=whole(1), metavar="N", help="width inside the MLP (default: 1024)")
    add(
        "--vocab",
        dest="vocabulary",
        type=whole(1),
        metavar="N",
        help="size of the vocabulary (default: 8000, or that of --draft-of)",
    )
    add("--max-positions", type=whole(16), metavar="N", help="longest source or target (default: 512)")
    add(
        "--position-offset",
        type=whole(0),
        metavar="PHI",
        help="position of the first target token (default: 0, or that of --from)",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    whole, number = arguments.whole, arguments.number
    add = parser.add_argument_group("data").add_argument
    add(
        "--split",
        choices=("word", "token"),
        default="word",
        help="what wait-k counts; in scripts without spaces a character is a word (default: word)",
    )
    add("--max-words", type=whole(1), default=60, metavar="N", help="leave out longer rows (default: 60)")
    add(
        "--max-ratio",
        type=number(1),
        default=3.0,
        metavar="R",
        help="leave out rows whose sides differ more in length (default: 3)",
    )
    add(
        "--json-keys",
        nargs=2,
        default=("source_key", "target_key"),
        metavar=("SOURCE", "TARGET"),
        help="keys of the two sides in JSON files (default: source_key target_key)",
    )
    add(
        "--augment",
        nargs=3,
        type=number(0, 1),
        default=(0.0, 0.0, 0.0),
        metavar=("JOINED", "REPLACED", "HEARD"),
        help="change shares of the rows: neighbours joined, names and numbers replaced on both sides, sources as a "
        "recogniser gives them (English; default: 0 0 0)",
    )
    add("--templates", type=whole(0), default=0, metavar="N", help="add rows of values to copy, into fr and de")
    every, pairs = "steps between validations and checkpoints", "rows used of each --valid file"
    add("--valid-every", type=whole(1), default=500, metavar="N", help=f"{every} (default: 500)")
    add("--valid-pairs", type=whole(1), default=500, metavar="N", help=f"{pairs} (default: 500)")


def _add_optimizer(parser: argparse.ArgumentParser) -> None:
    whole, number = arguments.whole, arguments.number
    add = parser.add_argument_group("objective and optimizer").add_argument
    add(
        "--wait-k",
        nargs="+",
        type=_wait_k,
        default=[1, 2, 3, 5, 7, None],
        metavar="K",
        help="k of a batch, drawn from these; full: read everything first (default: 1 2 3 5 7 full)",
    )
    add("--tokens-per-batch", type=whole(16), default=4096, metavar="N", help="tokens in one pass (default: 4096)")
    add("--accumulate", type=whole(1), default=1, metavar="N", help="passes in one step (default: 1)")
    add("--lr", type=number(0, is_open=True), default=2e-3, metavar="R", help="highest learning rate (default: 2e-3)")
    add("--warmup", type=whole(0), default=200, metavar="N", help="steps up to that rate (default: 200)")
    add("--decay", type=number(0, 1), default=1.0, metavar="P", help="let it fall in this last part (default: 1)")
    add("--device", choices=("cuda", "cpu"), help="by PyTorch there, Qwen2 architectures only (default: by mlx)")
    add("--precision", choices=("bf16", "fp32"), default="bf16", help="of products by PyTorch (default: bf16)")
    add(
        "--dropout",
        type=number(0, 0.99),
        default=0.0,
        metavar="P",
        help="dropout of the embedding and of each layer's output (default: 0)",
    )
    add("--label-smoothing", type=number(0, 0.9), default=0.1, metavar="E", help="label smoothing (default: 0.1)")
    add("--weight-decay", type=number(0), default=0.01, metavar="W", help="weight decay (default: 0.01)")
    add("--clip", type=number(0, is_open=True), default=1.0, metavar="N", help="largest gradient norm (default: 1)")
    add(
        "--average",
        type=number(0, 1),
        default=0.1,
        metavar="P",
        help="average the weights of this last part of the steps; 0: take the last (default: 0.1)",
    )
    add("--seed", type=whole(0, 2**63 - 1), default=0, metavar="N", help="seed of everything random (default: 0)")


def _wait_k(text: str) -> int | None:
    return None if text == "full" else arguments.wait_k(text)


def run(args: argparse.Namespace) -> int:
    """0 once the model is written, by the last step or by --time-limit; 130 after Ctrl-C, the model written too."""
    output.silence_libraries()
    from worker.commands.train_recipe import recipe_of
    from worker.commands.train_view import Stop, view

    stop = Stop(args.time_limit)
    with output.busy("Starting the engine"):
        from worker.training.train import pack, train
    recipe = recipe_of(args)
    plan_s = args.time_limit if args.finish or not (args.steps or args.resume) else None
    with view(recipe.steps, as_json=args.json) as report, stop:
        if args.pack is not None:
            pack(recipe, args.pack, report, max_bytes=(args.pack_mib or _PACK_MIB) * 2**20)
            return 0
        progress = train(recipe, args.out, report, stop, resume=args.resume, plan_s=plan_s)
    if progress.step < recipe.steps and plan_s is None:
        output.note(f"Stopped at step {progress.step} of {recipe.steps}: decalage train --resume --out {args.out}")
    return _INTERRUPTED if stop.is_signalled else 0

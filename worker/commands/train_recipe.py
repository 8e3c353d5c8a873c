"""The recipe that the options of `decalage train` tell."""

import argparse
from typing import Any, Final

from msgspec.structs import replace

from worker.commands.faults import CommandError
from worker.training.augmentation import Augmentation
from worker.training.checkpoint import read_recipe
from worker.training.data import Cleaning
from worker.training.files import Keys, parse_data_file
from worker.training.recipe import Lora, Recipe, Shape
from worker.training.sources import recipe_of_pack

_UNPLANNED_STEPS: Final = 10**9
"""Until the first steps have shown how many fit into --time-limit."""
_OWN: Final = {
    "hidden": "--hidden",
    "layers": "--layers",
    "heads": "--heads",
    "kv_heads": "--kv-heads",
    "mlp": "--mlp",
    "vocabulary": "--vocab",
    "max_positions": "--max-positions",
    "source_language": "--source-language",
}
"""What a new model has of its own: names, options."""


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that the options tell. Raises CommandError where one is missing, DataError for a file's name."""
    _check(args)
    if args.resume and not args.train:
        known = read_recipe(args.out)
        return known if args.from_pack is None else replace(known, pack=str(args.from_pack))
    if args.from_pack is not None:
        return replace(recipe_of_pack(args.from_pack), **_optimizer(args))
    return _recipe_of_text(args)


def _check(args: argparse.Namespace) -> None:
    if (args.out is None) == (args.pack is None):
        raise CommandError("give --out DIR, where the model goes, or --pack DIR, to train on another machine")
    if args.pack is None and (args.pack_mib or args.pack_epochs):
        raise CommandError("--pack-mib and --pack-epochs tell what --pack DIR writes: give that, or leave them out")
    if args.finish and not (args.resume and args.time_limit):
        raise CommandError(
            "--finish ends a run that is there within --time-limit: give --resume and --time-limit S too"
        )
    if args.resume and not args.train:
        return
    given = {"train": args.train, "valid": args.valid, "steps": args.steps or args.time_limit or args.pack}
    wanted = ("steps",) if args.from_pack is not None else tuple(given)
    missing = [f"--{name}" for name in wanted if not given[name]]
    if missing:
        raise CommandError(f"{', '.join(missing)} missing; a new run needs them, --resume goes on with an old one")
    if args.from_pack is not None and args.train:
        raise CommandError("--from-pack brings its own data; leave --train out, or pack again with --pack")


def _recipe_of_text(args: argparse.Namespace) -> Recipe:
    own = _own(args)
    joined, substituted, heard = args.augment
    return Recipe(
        train=tuple(parse_data_file(text, args.to) for text in args.train),
        valid=tuple(parse_data_file(text, args.to) for text in args.valid),
        start=args.start,
        draft_of=args.draft_of,
        lora=_lora(args),
        source_language=own.pop("source_language", "en"),
        shape=Shape(**own),
        position_offset=args.position_offset,
        split=args.split,
        cleaning=Cleaning(max_words=args.max_words, max_ratio=args.max_ratio),
        keys=Keys(*args.json_keys),
        augmentation=Augmentation(joined, substituted, heard, args.templates),
        pack_epochs=args.pack_epochs or 1,
        split_digits=args.split_digits,
        valid_pairs=args.valid_pairs,
        **_optimizer(args),
    )


def _optimizer(args: argparse.Namespace) -> dict[str, Any]:
    # What a run from a pack is still told by options.
    return {
        "steps": args.steps or _UNPLANNED_STEPS,
        "wait_k": tuple(args.wait_k),
        "tokens_per_batch": args.tokens_per_batch,
        "accumulate": args.accumulate,
        "peak_rate": args.lr,
        "warmup_steps": args.warmup,
        "decay": args.decay,
        "device": args.device or "mlx",
        "precision": args.precision,
        "dropout": args.dropout,
        "label_smoothing": args.label_smoothing,
        "weight_decay": args.weight_decay,
        "max_norm": args.clip,
        "average": args.average,
        "valid_every": args.valid_every,
        "seed": args.seed,
    }


def _own(args: argparse.Namespace) -> dict[str, Any]:
    # What is told of a model that is new. Where another model tells it, nobody would listen.
    own = {name: value for name in _OWN if (value := getattr(args, name)) is not None}
    option, model, shared = "--from", args.start, tuple(_OWN)
    if model is None:
        option, model, shared = "--draft-of", args.draft_of, ("vocabulary", "source_language")
    unheard = [_OWN[name] for name in shared if name in own]
    if model is not None and unheard:
        raise CommandError(f"{option} {model} brings its own {', '.join(unheard)}: leave those out")
    return own


def _lora(args: argparse.Namespace) -> Lora | None:
    options = {name: getattr(args, f"lora_{name}") for name in ("layers", "scale", "dropout")}
    given = {name: value for name, value in options.items() if value is not None}
    if args.lora is not None:
        return Lora(args.lora, **given)
    if given:
        raise CommandError(f"--lora-{next(iter(given))} is of adapters, and there are none: give --lora RANK too")
    return None

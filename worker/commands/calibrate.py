"""`decalage calibrate`: find the attention heads of a model that align target and source, for AlignAtt."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.commands import arguments, output
from worker.commands.faults import CommandError
from worker.commands.test_set import languages_of, progress_bar, session_into
from worker.evaluation import defaults

if TYPE_CHECKING:
    from worker.evaluation.calibration import Calibration

HELP: Final = "find the attention heads that tell AlignAtt which source word is being translated"
USAGE: Final = "MODEL --test FILE.tsv[.gz] [--to LANG] [options]"
EXAMPLES: Final = """\
Each line of the file is a source, a tab and its translation; a few hundred lines are enough. The heads that attend
most often to the word that is being translated are written into the model's decalage.json, or, for a GGUF file, a hub
id and a folder that cannot be written, into ~/.cache/decalage. From then on, the policy align-att reads them alone.

Examples:
  decalage calibrate Qwen/Qwen2.5-1.5B-Instruct --test news.en-fr.tsv.gz
  decalage calibrate model.gguf --test talks.tsv --to de --limit 100"""

DEFAULT_LINES: Final = 300
_SHOWN: Final = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage calibrate`."""
    whole = arguments.whole
    parser.add_argument("model", metavar="MODEL", help="directory, GGUF file, hub id (owner/name) or shipped model")
    parser.add_argument("--test", type=Path, required=True, metavar="FILE", help="parallel text: TSV, gzipped or not")
    arguments.add_to(parser, otherwise="from a file name such as x.en-fr.tsv")
    parser.add_argument(
        "--limit", type=whole(1), default=DEFAULT_LINES, metavar="N", help="only N lines (default: %(default)s)"
    )
    parser.add_argument("--seed", type=whole(0), metavar="S", help="draw the N lines at random (default: the first)")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Calibrate the model, write its card and print the heads; return 0. Raises CommandError."""
    from worker.commands.translation import load_model
    from worker.engine.loading import model_path
    from worker.engine.text.card import write_findings
    from worker.engine.text.card_cache import Findings
    from worker.evaluation.corpus import read_corpus

    corpus = read_corpus(args.test, limit=args.limit, seed=args.seed)
    languages = languages_of(args.test, args.to)
    model = load_model(args.model)
    options = session_into(model, languages, defaults.MAX_NEW_WORDS)
    calibration = _calibrated(model, options, corpus)
    chosen = calibration.chosen
    if not chosen:
        raise CommandError(
            f"no head of {args.model} aligns better than all of them together ({calibration.score_of_all:.0%}); "
            "nothing is written, and align-att goes on to read all heads",
            code="no_alignment",
        )
    heads = tuple((head.layer, head.head) for head in chosen)
    card = write_findings(model_path(args.model), Findings(alignment_heads=heads))
    if args.json:
        output.print_json_line(_described(args, calibration, card))
    else:
        _show(args, calibration, card)
    return 0


def _calibrated(model: Any, options: Any, corpus: Any) -> "Calibration":
    from worker.evaluation.calibration import calibrate

    with progress_bar() as progress:
        task = progress.add_task("calibrating", total=len(corpus))
        return calibrate(model.engine, model.vocabulary, options, corpus, on_done=lambda: progress.advance(task))


def _described(args: argparse.Namespace, calibration: "Calibration", card: Path) -> dict[str, Any]:
    from msgspec import to_builtins

    return {
        "model": args.model,
        "test": args.test.name,
        **to_builtins(calibration, str_keys=True),
        "chosen": to_builtins(calibration.chosen),
        "card": str(card),
    }


def _show(args: argparse.Namespace, calibration: "Calibration", card: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from protocol import policy_name
    from worker.engine.loading import model_path
    from worker.engine.text.card import read_card

    console, chosen = Console(highlight=False), calibration.chosen
    console.print(
        Text(
            f"{args.model} on {args.test.name}: {calibration.num_sentences} sentences, {calibration.num_tokens} tokens "
            "whose source word is known"
        )
    )
    table = Table(title="Share of them at which a head attends most to that word", title_justify="left")
    for name in ("layer", "head", "share"):
        table.add_column(name, justify="right")
    for head in calibration.heads[: max(_SHOWN, len(chosen))]:
        style = None if head in chosen else "dim"
        table.add_row(str(head.layer), str(head.head), f"{head.score:.1%}", style=style)
    console.print(table)
    together = calibration.scores_together[len(chosen)]
    all_heads = f"All {len(calibration.heads)}: {calibration.score_of_all:.1%}."
    console.print(Text(f"The best {len(chosen)} together: {together:.1%}. {all_heads}"))
    default = policy_name(read_card(model_path(args.model)).default_policy)
    output.note(f"They are in {card}; align-att reads them from now on. The model's default policy is {default}")

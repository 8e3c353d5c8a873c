"""`decalage tune`: find a model's best adaptive policy on a validation set, and make it the model's default."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands import arguments, output
from worker.commands.test_set import languages_of, progress_bar, session_into
from worker.evaluation import defaults

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol import Policy, Session
    from worker.commands.translation import Model
    from worker.evaluation.corpus import Sentence
    from worker.evaluation.tuning import Figures, Tried, Tuning

HELP: Final = "find the policy that suits a model best, and make it the model's default"
USAGE: Final = "--model M --test FILE.tsv[.gz] [FILE ...] [options]"
EXAMPLES: Final = """\
Adaptive policies are compared with wait-k: the one with the highest BLEU among those that lag no more becomes the
policy of sessions that ask for none. It is written into the model's decalage.json, or, for a GGUF file, a hub id and
a folder that cannot be written, into ~/.cache/decalage. Use validation sets, not the
test sets that you report. With several sets, their means count.

Examples:
  decalage tune --model ./mine --test valid.en-fr.tsv valid.en-de.tsv --limit 200
  decalage tune --model ./mine --test valid.tsv --to de --wait-k 2 --dry-run"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage tune`."""
    whole = arguments.whole
    arguments.add_model(parser)
    parser.add_argument(
        "--test", type=Path, nargs="+", required=True, metavar="FILE", help="validation sets: TSV, gzipped or not"
    )
    arguments.add_to(parser, otherwise="from file names such as x.en-fr.tsv")
    parser.add_argument(
        "--wait-k", type=arguments.wait_k, default=3, metavar="K", help="lag no more than wait-K (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=whole(1), default=200, metavar="N", help="lines of a set (default: %(default)s)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="draws the lines (default: %(default)s)")
    parser.add_argument(
        "--rows", type=whole(1, 4096), default=64, metavar="N", help="sentences to a pass (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="leave the card as it is")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Search, print the table and write the card; return 0."""
    from worker.commands.translation import load_model
    from worker.engine.loading import model_path
    from worker.engine.text.card import write_findings
    from worker.engine.text.card_cache import Findings
    from worker.evaluation.corpus import read_corpus
    from worker.evaluation.tuning import search

    sets = [(read_corpus(path, limit=args.limit, seed=args.seed), languages_of(path, args.to)) for path in args.test]
    model = load_model(args.model)
    corpora = [(corpus, session_into(model, languages, defaults.MAX_NEW_WORDS)) for corpus, languages in sets]
    tuning = search(_measure(model, corpora, args.rows), k=args.wait_k)
    card = None
    if not args.dry_run:
        found = Findings(policy=tuning.best.policy, measured=measured(tuning.best, [path.name for path in args.test]))
        card = write_findings(model_path(args.model), found)
    if args.json:
        from msgspec import to_builtins

        output.print_json_line(to_builtins({"best": tuning.best, "baseline": tuning.baseline, "tried": tuning.tried}))
        return 0
    _show(tuning)
    if card is not None:
        output.note(f"The default policy is in {card}")
    return 0


def _measure(
    model: "Model", corpora: "list[tuple[list[Sentence], Session]]", max_rows: int
) -> "Callable[[Policy], tuple[Figures, ...]]":
    from worker.engine.runner import Runner
    from worker.evaluation.policies import policy_name, streaming
    from worker.evaluation.run import translate
    from worker.evaluation.scores import score
    from worker.evaluation.tuning import Figures

    runner = Runner(model.engine, model.vocabulary)

    def measure(policy: "Policy") -> "tuple[Figures, ...]":
        found = []
        with progress_bar() as progress:
            for corpus, session in corpora:
                options = streaming(session, policy)
                advance = partial(progress.advance, progress.add_task(policy_name(options), total=len(corpus)))
                run = translate(runner, model.vocabulary, options, corpus, max_rows=max_rows, on_done=advance)
                scores = score(run, language=session.target_language or "")
                found.append(Figures(scores.bleu.value, scores.latency_words.al if scores.latency_words else 0.0))
        return tuple(found)

    return measure


def _show(tuning: "Tuning") -> None:
    from rich.console import Console
    from rich.table import Table

    from protocol import policy_name

    table = Table(title="Means over the sets", title_justify="left")
    table.add_column("policy")
    for name in ("BLEU", "AL"):
        table.add_column(name, justify="right")
    for found in (tuning.baseline, *tuning.tried):
        style = "bold" if found == tuning.best else ""
        table.add_row(policy_name(found.policy), f"{found.bleu:.1f}", f"{found.al:.2f}", style=style)
    console = Console(highlight=False)
    console.print(table)
    gain = tuning.best.bleu - tuning.baseline.bleu
    console.print(
        f"Best: {policy_name(tuning.best.policy)}, {gain:+.1f} BLEU beside {policy_name(tuning.baseline.policy)}"
    )


def measured(best: "Tried", names: list[str]) -> str:
    """Describe a policy's figures, for the line that `decalage serve` prints."""
    from protocol import policy_name

    parts = [
        f"{figures.bleu:.1f} BLEU at AL {figures.al:.1f} on {name}"
        for name, figures in zip(names, best.sets, strict=True)
    ]
    return f"{policy_name(best.policy)}: {', '.join(parts)}"

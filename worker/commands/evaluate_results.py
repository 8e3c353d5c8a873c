"""What `decalage evaluate` keeps: the report of its runs, the comparison, the files."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from worker.evaluation.curve import draw_curves
from worker.evaluation.quality import paired_bootstrap
from worker.evaluation.records import write_records, write_whole
from worker.evaluation.report import CURVE_FILE, SCORES_FILE, Report, curves
from worker.evaluation.run import Run, Translated
from worker.evaluation.scores import score

_BASELINE = "baseline"  # no policy is called so


def described(args: argparse.Namespace, languages: tuple[str, str], runs: Mapping[str, Run]) -> Report:
    """The report of these runs, at least one of them."""
    source, target = languages
    return Report(
        model=args.model if not args.kv_bits else f"{args.model} ({args.kv_bits}-bit keys and values)",
        test=args.test.name,
        source_language=source,
        target_language=target,
        num_sentences=len(next(iter(runs.values())).sentences),
        limit=args.limit,
        seed=args.seed,
        rows=args.rows,
        word_ms=args.word_ms,
        policies=tuple(score(run, language=target, word_ms=args.word_ms) for run in runs.values()),
    )


def compared(report: Report, runs: Mapping[str, Run], baseline: Sequence[Translated], path: Path) -> Report:
    """The report with each policy beside the earlier results."""
    predictions = {_BASELINE: [sentence.prediction for sentence in baseline]}
    predictions |= {name: [sentence.prediction for sentence in run.sentences] for name, run in runs.items()}
    references = [sentence.reference for sentence in baseline]
    found = paired_bootstrap(predictions, references, report.target_language)
    return replace(
        report, baseline=str(path), differences={name: tuple(differences) for name, differences in found.items()}
    )


def saved(folder: Path, report: Report, runs: Mapping[str, Run], earlier: Sequence[tuple[Path, Report]]) -> None:
    """The folder holds the sentences of each policy, the figures, and the curve beside those of earlier folders."""
    for name, run in runs.items():
        write_records(folder / f"{name}.jsonl", run.sentences)
    figures = msgspec.json.format(msgspec.json.encode(report), indent=2)
    write_whole(folder / SCORES_FILE, figures + b"\n")
    drawn = curves(report, report.model)
    for path, other in earlier:
        name = other.model if other.model not in drawn else f"{other.model} ({path.name})"
        drawn |= curves(other, name if name not in drawn else str(path))
    title = f"{report.test}, {report.num_sentences} sentences"
    write_whole(folder / CURVE_FILE, draw_curves(drawn, title=title))

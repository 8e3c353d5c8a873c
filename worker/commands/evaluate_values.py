"""`decalage evaluate --values`: which values survive the translation, and how that is shown."""

import argparse
from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.evaluation.run import Run
from worker.evaluation.values import ValuesReport, kept_values

_SHOWN_LOSSES: Final = 5


def described(args: argparse.Namespace, target: str, runs: Mapping[str, Run]) -> ValuesReport:
    """The report of these runs, at least one of them."""
    return ValuesReport(
        model=args.model,
        values=args.values.name,
        target_language=target,
        num_sentences=len(next(iter(runs.values())).sentences),
        policies=tuple(kept_values(run, target) for run in runs.values()),
    )


def show(report: ValuesReport) -> None:
    """Print the shares, and a few of the losses of the policy that has most of them."""
    console = Console(highlight=False)
    console.print(
        Text(f"{report.model} on {report.values}, {report.num_sentences} sentences into {report.target_language}")
    )
    table = Table(title="Values that survive", title_justify="left")
    for name in ("policy", "kept", "of", "share"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for kept in report.policies:
        table.add_row(kept.policy, str(kept.num_kept), str(kept.num_values), f"{kept.share:.1%}")
    console.print(table)
    worst = min(report.policies, key=lambda kept: kept.share)
    for loss in worst.losses[:_SHOWN_LOSSES]:
        console.print(Text(f"{worst.policy}: {loss.source} → {loss.prediction} (lost: {', '.join(loss.lost)})", "dim"))

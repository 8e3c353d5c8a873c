"""How `decalage evaluate` looks: a row for each policy, the comparison, the signatures."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.evaluation.quality import Difference
from worker.evaluation.report import Report
from worker.evaluation.scores import Latency, Scores


def show(report: Report) -> None:
    """All of it on stdout."""
    console = Console(highlight=False)
    console.print(
        Text(f"{report.model} on {report.test}, {report.num_sentences} sentences into {report.target_language}")
    )
    console.print(_words_table(report.policies))
    console.print(_computing_table(report.policies))
    if report.differences:
        console.print(_comparison(report))
    for line in _notes(report):
        console.print(Text(line, style="dim"), soft_wrap=True)


def _words_table(policies: Sequence[Scores]) -> Table:
    table = Table(title="Quality, latency in source words", title_justify="left")
    table.add_column("policy")
    for name in ("BLEU", "chrF", "AL", "LAAL", "AP", "DAL", "words/s"):
        table.add_column(name, justify="right")
    for scores in policies:
        quality = (f"{scores.bleu.value:.1f}", f"{scores.chrf.value:.1f}")
        latency = _cells(scores.latency_words, digits=2)
        table.add_row(scores.policy, *quality, *latency, f"{scores.words_per_s:.0f}")
    return table


def _computing_table(policies: Sequence[Scores]) -> Table:
    table = Table(title="Computation-aware latency in ms", title_justify="left")
    table.add_column("policy")
    for name in ("AL_CA", "LAAL_CA", "AP_CA", "DAL_CA"):
        table.add_column(name, justify="right")
    for scores in policies:
        table.add_row(scores.policy, *_cells(scores.latency_ca_ms, digits=0))
    return table


def _cells(latency: Latency | None, digits: int) -> tuple[str, ...]:
    if latency is None:
        return ("–",) * 4
    al, laal, dal = (f"{value:.{digits}f}" for value in (latency.al, latency.laal, latency.dal))
    return al, laal, f"{latency.ap:.2f}", dal


def _comparison(report: Report) -> Table:
    table = Table(title=f"Beside {report.baseline}, paired bootstrap", title_justify="left")
    table.add_column("policy")
    for name in ("BLEU", "change", "p", "chrF", "change", "p"):
        table.add_column(name, justify="right")
    for policy, differences in report.differences.items():
        table.add_row(policy, *(cell for difference in differences for cell in _change(difference)))
    return table


def _change(difference: Difference) -> tuple[str, str, str]:
    change = difference.system - difference.baseline
    return f"{difference.system:.1f}", f"{change:+.1f}", f"{difference.p_value:.3f}"


def _notes(report: Report) -> list[str]:
    first = report.policies[0]
    lines = [
        f"Times with --rows {report.rows}, a source word spoken in {report.word_ms:g} ms.",
        f"BLEU {first.bleu.signature}",
        f"chrF {first.chrf.signature}",
    ]
    if report.differences:
        lines.append(f"Paired bootstrap {next(iter(report.differences.values()))[0].signature}")
    for scores in report.policies:
        if scores.num_empty:
            lines.append(f"{scores.policy}: {scores.num_empty} translations without a word, which have no latency.")
        if scores.num_cut:
            lines.append(f"{scores.policy}: {scores.num_cut} translations cut at a limit.")
    return lines

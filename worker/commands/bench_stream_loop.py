"""The sentences of a talk through sessions, scheduler and engine, with more and more sessions at once."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocol import Session, policy_name
from worker.commands import bench_machine
from worker.commands.translation import Model, load_model
from worker.engine.runner import Counters, Runner
from worker.evaluation.corpus import Sentence
from worker.evaluation.run import Run, translate
from worker.library.running import runner_of

_ROUNDS = 3


class Point(msgspec.Struct, frozen=True):
    """So many sessions at once."""

    sessions: int
    words_per_s: float  # target words of all of them, median over the rounds
    speedup: float  # against the first number of sessions
    forwards_per_word: float  # rows computed
    passes_per_word: float
    tokens_per_word: float  # of the words written
    padding: float  # of the tokens computed
    accepted_drafts: float  # of the drafts fed


class Streaming(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    model: str
    policy: str
    machine: dict[str, Any]
    points: tuple[Point, ...]


def measure(name: str, session: Session, sentences: Sequence[str], numbers: Sequence[int]) -> Streaming:
    """The speeds for each number of sessions. Raises EngineError for a model that cannot be had."""
    machine = bench_machine.facts()
    model = load_model(name)
    points: list[Point] = []
    for number in numbers:
        point = _point(model, session, sentences, number)
        first = points[0].words_per_s if points else point.words_per_s
        points.append(msgspec.structs.replace(point, speedup=round(point.words_per_s / first, 2)))
    return Streaming(name, policy_name(session.policy), machine, tuple(points))


def _point(model: Model, session: Session, sentences: Sequence[str], number: int) -> Point:
    # Every session has the whole talk, so that none runs out of sentences before the others.
    corpus = [Sentence(i, text, text) for i, text in enumerate(list(sentences) * number, 1)]
    runner = runner_of(model.engine, model.vocabulary)
    before = msgspec.structs.replace(runner.counters)
    runs = [translate(runner, model.vocabulary, session, corpus, max_rows=number) for _ in range(_ROUNDS)]
    words = sum(run.num_words for run in runs)
    spent = _spent(before, runner)
    computed = spent.source_tokens + spent.target_tokens + spent.padding_tokens
    return Point(
        sessions=number,
        words_per_s=round(median(run.words_per_s for run in runs), 1),
        speedup=1.0,
        forwards_per_word=round(spent.forwards / words, 3),
        passes_per_word=round(spent.passes / words, 3),
        tokens_per_word=round(_tokens(model, runs[0]) / runs[0].num_words, 3),
        padding=round(spent.padding_tokens / computed, 3),
        accepted_drafts=round(spent.accepted_drafts / max(1, spent.proposed_drafts), 3),
    )


def _spent(before: Counters, runner: Runner) -> Counters:
    after = runner.counters
    return Counters(*(getattr(after, name) - getattr(before, name) for name in Counters.__struct_fields__))


def _tokens(model: Model, run: Run) -> int:
    return sum(
        len(model.vocabulary.encode_word(word, "x"))
        for sentence in run.sentences
        for word in sentence.prediction.split()
    )


def show(report: Streaming) -> None:
    """All of it on stdout."""
    console = Console(highlight=False)
    console.print(Text(f"Streaming with {report.model}, {report.policy}"))
    table = Table()
    for name in ("sessions", "words/s", "speed-up", "forwards", "passes", "padding", "drafts kept"):
        table.add_column(name, justify="right")
    for point in report.points:
        table.add_row(
            str(point.sessions),
            f"{point.words_per_s:,.0f}",
            f"{point.speedup:.1f}×",
            f"{point.forwards_per_word:.2f}",
            f"{point.passes_per_word:.2f}",
            f"{point.padding:.0%}",
            f"{point.accepted_drafts:.0%}",
        )
    console.print(table)
    notes = [
        f"Target words a second of all sessions, medians of {_ROUNDS} rounds; {report.points[0].tokens_per_word:.2f} "
        "tokens a word.",
        "Forwards (rows computed) and passes (each over the rows of many sessions) are those of one word.",
    ]
    for line in (*notes, *bench_machine.lines(report.machine)):
        console.print(Text(line, style="dim"), soft_wrap=True)

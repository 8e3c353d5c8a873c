"""The translation of a talk by sessions, scheduler and engine, with several numbers of sessions."""

from collections.abc import Sequence
from copy import copy
from statistics import median
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol import Session, Speculation
from worker.commands.bench import stages
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.models import Harness, Subject, spent
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.progress import tracked
from worker.commands.bench.stages import Stopwatch
from worker.evaluation.corpus import Sentence
from worker.evaluation.policies import policy_name
from worker.evaluation.run import Run, translate

_ROUNDS = 3


class Point(msgspec.Struct, frozen=True):
    """The figures for one number of sessions."""

    sessions: int
    words_per_s: float  # target words of all of them, median over the rounds
    undrafted_words_per_s: float  # the baseline: the same without any drafts
    speedup: float  # against the first number of sessions
    forwards_per_word: float  # rows computed
    passes_per_word: float
    tokens_per_word: float  # of the words written
    padding: float  # of the tokens computed
    accepted_drafts: float  # of the drafts fed
    stages_ms: dict[str, float]  # of a pass


class Streaming(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    model: Subject
    policy: str
    machine: dict[str, Any]
    points: tuple[Point, ...]


def measure(harness: Harness, session: Session, sentences: Sequence[str], numbers: Sequence[int]) -> Streaming:
    """Measure the speed for each number of sessions."""
    machine = machine_facts()
    points: list[Point] = []
    for number in tracked(numbers, "numbers of sessions"):
        point = _point(harness, session, sentences, number)
        base = points[0] if points else point
        points.append(replace(point, speedup=round(point.words_per_s / base.words_per_s, 2)))
    return Streaming(harness.subject, policy_name(session), machine, tuple(points))


def _point(harness: Harness, session: Session, sentences: Sequence[str], number: int) -> Point:
    without = replace(session, speculation=Speculation(enabled=False))
    runs, plain = [], []
    for _ in range(_ROUNDS):
        before, drafted_before = copy(harness.runner.counters), copy(harness.author.counters)
        runs.append(_round(harness, session, sentences, number))
        work, drafted = spent(before, harness.runner), spent(drafted_before, harness.author)  # the same in every round
        plain.append(_round(harness, without, sentences, number))
    words = runs[-1].num_words
    computed = work.source_tokens + work.target_tokens + work.padding_tokens
    watch = Stopwatch()
    with watch.watching():
        _round(harness, session, sentences, number)
    return Point(
        sessions=number,
        words_per_s=round(median(run.words_per_s for run in runs), 1),
        undrafted_words_per_s=round(median(run.words_per_s for run in plain), 1),
        speedup=1.0,
        forwards_per_word=round(work.forwards / words, 3),
        passes_per_word=round(work.passes / words, 3),
        tokens_per_word=round(_num_tokens(harness, runs[-1]) / words, 3),
        padding=round(work.padding_tokens / computed, 3),
        accepted_drafts=round(drafted.accepted_drafts / max(1, drafted.proposed_drafts), 3),
        stages_ms=watch.ms_a_pass(),
    )


def _round(harness: Harness, session: Session, sentences: Sequence[str], number: int) -> Run:
    # Every session gets the whole talk, so that all of them end together.
    corpus = [Sentence(i, text, text) for i, text in enumerate(list(sentences) * number, 1)]
    return translate(harness.engine, harness.vocabulary, session, corpus, max_rows=number, clock_s=harness.clock_s)


def _num_tokens(harness: Harness, run: Run) -> int:
    words = [word for sentence in run.sentences for word in sentence.prediction.split()]
    return sum(len(harness.vocabulary.encode_word(word, "x")) for word in words)


def page(report: Streaming) -> Page:
    """Lay the report out."""
    rows = [
        (
            str(point.sessions),
            f"{point.words_per_s:,.0f}",
            f"{point.undrafted_words_per_s:,.0f}",
            f"{point.speedup:.1f}×",
            f"{point.forwards_per_word:.2f}",
            f"{point.passes_per_word:.2f}",
            f"{point.padding:.0%}",
            f"{point.accepted_drafts:.0%}",
        )
        for point in report.points
    ]
    first = report.points[0]
    columns = ("sessions", "words/s", "plain", "speed-up", "forwards", "passes", "padding", "kept")
    return Page(
        title=f"Streaming with {report.model}, {report.policy}",
        sheets=(
            Sheet(columns, tuple(rows)),
            stages.sheet("sessions", {point.sessions: point.stages_ms for point in report.points}),
        ),
        notes=(
            f"Target words a second of all sessions, medians of {_ROUNDS} rounds; {first.tokens_per_word:.2f} tokens "
            "a word. Plain: without drafts, in turns.",
            "Forwards (rows computed) and passes (each over the rows of many sessions) are those of one word; kept: of "
            "the drafts.",
            stages.NOTE,
        ),
        plot=Plot(
            x="sessions",
            y="words/s, all sessions together",
            lines={
                "Decalage": tuple((point.sessions, point.words_per_s) for point in report.points),
                "without drafts": tuple((point.sessions, point.undrafted_words_per_s) for point in report.points),
            },
            has_log_x=True,
        ),
    )

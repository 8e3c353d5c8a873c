"""The translation of a talk by sessions, scheduler and engine, with several numbers of sessions."""

from collections.abc import Mapping, Sequence
from copy import copy
from statistics import median
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol import Session, Speculation
from worker.commands.bench import stages
from worker.commands.bench.forced import Forced
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.models import Harness, Subject, spent
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.progress import tracked
from worker.commands.bench.stages import Stopwatch
from worker.commands.bench.transcript import Reader, Transcript, record
from worker.engine.runner import Counters
from worker.evaluation.corpus import Sentence
from worker.evaluation.policies import policy_name
from worker.evaluation.run import Run, translate

_ROUNDS = 3


class Point(msgspec.Struct, frozen=True):
    """The figures for one number of sessions in one layout."""

    sessions: int
    layout: str
    words_per_s: float  # target words of all of them, median over the rounds
    undrafted_words_per_s: float  # the baseline: the same without any drafts
    speedup: float  # against the first number of sessions, in the same layout
    ratio: float  # against the first layout, with the same number of sessions
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
    layouts: tuple[str, ...]
    machine: dict[str, Any]
    points: tuple[Point, ...]  # by number of sessions, then by layout


class _Talk(msgspec.Struct, frozen=True):
    """The sentences that each session translates, with these options, in the layout of the harness."""

    harness: Harness
    session: Session
    sentences: Sequence[str]
    transcript: Transcript


class _Round(msgspec.Struct, frozen=True):
    """What was written by all sessions, and how."""

    run: Run
    work: Counters
    accepted_drafts: float


def measure(
    harness: Harness, session: Session, sentences: Sequence[str], numbers: Sequence[int], layouts: Sequence[str | None]
) -> Streaming:
    """Measure the speed for each number of sessions in each layout; None: the model's own.

    Raises CommandError for a text that becomes other segments in another layout.
    """
    machine = machine_facts()
    options = (session, replace(session, speculation=Speculation(enabled=False)))
    transcripts = [record(harness, each, sentences) for each in options]
    harnesses = {subject.layout: subject for subject in map(harness.in_layout, layouts)}
    talks = {
        layout: [_Talk(subject, *each) for each in zip(options, [sentences] * 2, transcripts, strict=True)]
        for layout, subject in harnesses.items()
    }
    points: list[Point] = []
    for number in tracked(numbers, "numbers of sessions"):
        new = _points(talks, number)
        bases = points[: len(new)] or new
        points += [
            replace(
                point,
                speedup=round(point.words_per_s / base.words_per_s, 2),
                ratio=round(point.words_per_s / new[0].words_per_s, 2),
            )
            for point, base in zip(new, bases, strict=True)
        ]
    return Streaming(harness.subject, policy_name(session), tuple(talks), machine, tuple(points))


def _points(talks: Mapping[str, Sequence[_Talk]], number: int) -> list[Point]:
    # In turns, so that layouts, with drafts and without, meet the same moods of the machine.
    rounds = [{name: [_round(talk, number) for talk in both] for name, both in talks.items()} for _ in range(_ROUNDS)]
    return [_point(name, talk, number, [each[name] for each in rounds]) for name, (talk, _) in talks.items()]


def _point(layout: str, talk: _Talk, number: int, rounds: Sequence[Sequence[_Round]]) -> Point:
    last, _ = rounds[-1]  # counts are the same in every round
    words, work = last.run.num_words, last.work
    computed = work.source_tokens + work.target_tokens + work.padding_tokens
    watch = Stopwatch()
    with watch.watching():
        _round(talk, number)
    return Point(
        sessions=number,
        layout=layout,
        words_per_s=round(median(drafted.run.words_per_s for drafted, _ in rounds), 1),
        undrafted_words_per_s=round(median(plain.run.words_per_s for _, plain in rounds), 1),
        speedup=1.0,
        ratio=1.0,
        forwards_per_word=round(work.forwards / words, 3),
        passes_per_word=round(work.passes / words, 3),
        tokens_per_word=round(_num_tokens(talk.harness, last.run) / words, 3),
        padding=round(work.padding_tokens / computed, 3),
        accepted_drafts=round(last.accepted_drafts, 3),
        stages_ms=watch.ms_a_pass(),
    )


def _round(talk: _Talk, number: int) -> _Round:
    # Every session gets the whole talk, so that all of them end together.
    harness, before = talk.harness, copy(talk.harness.runner.counters)
    corpus = [Sentence(i, text, text) for i, text in enumerate(list(talk.sentences) * number, 1)]
    reader = Reader(talk.transcript, harness.vocabulary.prompt(talk.session))
    engine = Forced(harness.runner, teacher=reader)
    run = translate(engine, harness.vocabulary, talk.session, corpus, max_rows=number, clock_s=engine.clock_s)
    return _Round(run, spent(before, harness.runner), reader.num_accepted / max(1, reader.num_drafts))


def _num_tokens(harness: Harness, run: Run) -> int:
    words = [word for sentence in run.sentences for word in sentence.prediction.split()]
    return sum(len(harness.vocabulary.encode_word(word, "x")) for word in words)


def page(report: Streaming) -> Page:
    """Lay the report out: with several layouts, a table of their speeds side by side, then one for each."""
    first, has_many = report.points[0], len(report.layouts) > 1
    of_layout = {name: [point for point in report.points if point.layout == name] for name in report.layouts}
    label = {name: f"{name}, " if has_many else "" for name in report.layouts}
    stages_ms = {f"{label[point.layout]}{point.sessions}": point.stages_ms for point in report.points}
    return Page(
        title=f"Streaming with {report.model}, {report.policy}, {' and '.join(report.layouts)} layout",
        sheets=(
            *([_comparison(of_layout)] if has_many else []),
            *(_sheet(points, name if has_many else "") for name, points in of_layout.items()),
            stages.sheet("sessions", stages_ms),
        ),
        notes=(
            f"Target words a second of all sessions, medians of {_ROUNDS} rounds; {first.tokens_per_word:.2f} tokens "
            "a word. Plain: without drafts, in turns.",
            f"Speed-up: to {first.sessions} session{'s' * (first.sessions > 1)} in the same layout.",
            "Forwards (rows computed) and passes (each over the rows of many sessions) are those of one word; kept: of "
            "the drafts.",
            stages.NOTE,
        ),
        plot=Plot(
            x="sessions",
            y="words/s, all sessions together",
            lines={
                f"{label[name]}{line}": tuple((point.sessions, getattr(point, field)) for point in points)
                for name, points in of_layout.items()
                for line, field in (("Decalage", "words_per_s"), ("without drafts", "undrafted_words_per_s"))
            },
            has_log_x=True,
        ),
    )


def _comparison(of_layout: Mapping[str, Sequence[Point]]) -> Sheet:
    names = list(of_layout)
    ratios = [f"{name} / {names[0]}" for name in names[1:]]
    rows = [
        (
            str(points[0].sessions),
            *(cell for point in points for cell in (f"{point.words_per_s:,.0f}", f"{point.speedup:.1f}×")),
            *(f"{point.ratio:.2f}" for point in points[1:]),
        )
        for points in zip(*of_layout.values(), strict=True)
    ]
    columns = ("sessions", *(cell for name in names for cell in (name, "speed-up")), *ratios)
    return Sheet(columns, tuple(rows), title="words/s of all sessions, by layout")


def _sheet(points: Sequence[Point], title: str) -> Sheet:
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
        for point in points
    ]
    columns = ("sessions", "words/s", "plain", "speed-up", "forwards", "passes", "padding", "kept")
    return Sheet(columns, tuple(rows), title=title)

"""The speed of requests one by one and in batches, with and without drafts."""

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import cycle, islice
from random import Random
from statistics import median
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from protocol import Session, Speculation
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.models import Harness, Subject, spent
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.progress import tracked
from worker.commands.bench.table_drafts import Drafts, Recorder, with_drafts
from worker.engine.runner import Counters
from worker.evaluation.corpus import Sentence
from worker.evaluation.run import Run, translate

_RESAMPLINGS: Final = 2_000
_FEWEST_ROUNDS: Final = 8  # for an interval by resampling
THEIRS: Final = {
    "Baseline": (50, 200, 1.0),
    "Speculative": (120, 83, 2.4),
    "Batching": (320, 250, 6.4),
    "Both": (400, 100, 8.0),
}
"""Tokens/s, latency in ms and ratio by the README of mlx-parallm, "Example performance improvements (results may
vary)": on a GPU, in batches of 8; it does not name the model and the prompts.
"""


class Workload(msgspec.Struct, frozen=True):
    """The requests, and how they are served."""

    batch: int
    requests: int  # in a round
    rounds: int
    max_draft_tokens: int
    drafts: Drafts


class Gain(msgspec.Struct, frozen=True):
    """The ratio of the speed with drafts to that without, over the same rounds and numbers of rows."""

    ratio: float  # of the total times
    low: float | None  # of the interval with 95 % of the resamplings of the rounds; None: too few rounds
    high: float | None

    def __str__(self) -> str:
        return f"{self.ratio:.2f}" + (f" ({self.low:.2f} to {self.high:.2f})" if self.low and self.high else "")


class Method(msgspec.Struct, frozen=True):
    """The figures of one way to serve the requests."""

    name: str
    tokens_per_s: float  # median over the rounds
    latency_ms: float  # of a request, from its first pass to its end; median
    ratio: float  # tokens/s to those of the baseline
    gain: Gain | None  # None: without drafts
    passes_per_token: float
    accepted_drafts: float | None  # of those proposed
    gigabytes_per_s: float  # of weights, read by the passes
    gflops: float  # of the products of tokens and weights


class Methods(msgspec.Struct, frozen=True):
    """The figures of one run on one machine."""

    model: Subject
    workload: Workload
    machine: dict[str, Any]
    methods: tuple[Method, ...]
    theirs: dict[str, tuple[int, int, float]]


class _Way(msgspec.Struct):
    # One of the four methods, and the results of its rounds.
    name: str
    harness: Harness
    rows: int
    session: Session
    has_drafter: bool
    runs: list[Run]
    spent: list[Counters]  # of the measured model
    drafted: list[Counters]  # of the model that accepts the drafts


def measure(harness: Harness, session: Session, sentences: Sequence[str], workload: Workload) -> Methods:
    """Measure the four methods in turns. Raises EngineError for a draft model that is missing or does not fit."""
    machine = machine_facts()
    corpus = [Sentence(i, text, text) for i, text in enumerate(islice(cycle(sentences), workload.requests), 1)]
    off = replace(session, speculation=Speculation(enabled=False))
    recorder = Recorder(harness.author, harness.vocabulary.eos_tokens)
    translate(recorder, harness.vocabulary, off, corpus, max_rows=workload.batch)
    on = replace(session, speculation=Speculation(max_draft_tokens=workload.max_draft_tokens))
    texts = dict(recorder.lanes)
    ways = [  # each has its own engine, which learns in which passes its drafts save time
        _Way(name, with_drafts(harness, workload.drafts, texts), rows, on, has_drafter, [], [], [])
        if has_drafter
        else _Way(name, harness, rows, off, has_drafter, [], [], [])
        for name, rows, has_drafter in _ways(workload.batch)
    ]
    for number in tracked(range(workload.rounds), "rounds"):
        for way in ways[:: -1 if number % 2 else 1]:  # alternate, so that a machine that slows down favours none
            _round(way, corpus)
    num_tokens = sum(len(target) for _, target in recorder.lanes)
    num_tokens -= len(corpus) * len(harness.vocabulary.prompt(off).in_layout().target)
    baseline_s = median(run.compute_s for run in ways[0].runs)
    gains = {way.name: _gain(off, way) for off, way in ((ways[0], ways[1]), (ways[2], ways[3]))}
    methods = tuple(_method(way, num_tokens, baseline_s, gains.get(way.name)) for way in ways)
    return Methods(harness.subject, workload, machine, methods, THEIRS)


def _ways(batch: int) -> tuple[tuple[str, int, bool], ...]:
    return ("Baseline", 1, False), ("Speculative", 1, True), ("Batching", batch, False), ("Both", batch, True)


def _round(way: _Way, corpus: Sequence[Sentence]) -> None:
    harness = way.harness
    before = copy(harness.runner.counters), copy(harness.author.counters)
    way.runs.append(
        translate(
            harness.engine,
            harness.vocabulary,
            way.session,
            corpus,
            max_rows=way.rows,
            has_drafter=way.has_drafter,
            clock_s=harness.clock_s,
        )
    )
    way.spent.append(spent(before[0], harness.runner))
    way.drafted.append(spent(before[1], harness.author))


def _gain(off: _Way, way: _Way) -> Gain:
    return gain_of([(before.compute_s, after.compute_s) for before, after in zip(off.runs, way.runs, strict=True)])


def gain_of(pairs: Sequence[tuple[float, float]]) -> Gain:
    """Return the gain of drafts from the seconds of each round without and with them."""
    ratio = round(_ratio(pairs), 3)
    if len(pairs) < _FEWEST_ROUNDS:
        return Gain(ratio, None, None)
    draw = Random(0)
    ratios = sorted(_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLINGS))
    low, high = (round(ratios[round(part * _RESAMPLINGS)], 3) for part in (0.025, 0.975))
    return Gain(ratio, low, high)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(before for before, _ in pairs) / sum(after for _, after in pairs)


def _method(way: _Way, num_tokens: int, baseline_s: float, gain: Gain | None) -> Method:
    model, time_s = way.harness.runner.model, median(run.compute_s for run in way.runs)
    latencies_ms = [sentence.compute_ms[-1] for run in way.runs for sentence in run.sentences if sentence.compute_ms]
    work, drafted, rounds = _sum(way.spent), _sum(way.drafted), len(way.runs)
    weights_bytes = model.num_parameters * model.dtype.size
    products = 2 * model.num_parameters * (work.source_tokens + work.target_tokens)
    kept = round(drafted.accepted_drafts / drafted.proposed_drafts, 3) if drafted.proposed_drafts else None
    return Method(
        name=way.name,
        tokens_per_s=round(num_tokens / time_s, 1),
        latency_ms=round(median(latencies_ms), 2),
        ratio=round(baseline_s / time_s, 3),
        gain=gain,
        passes_per_token=round(work.passes / num_tokens / rounds, 3),
        accepted_drafts=kept,
        gigabytes_per_s=round(weights_bytes * work.passes / time_s / rounds / 1e9, 2),
        gflops=round(products / time_s / rounds / 1e9, 2),
    )


def _sum(rounds: Sequence[Counters]) -> Counters:
    # The accepted forced drafts differ from round to round.
    return Counters(*(sum(getattr(counters, name) for counters in rounds) for name in Counters.__struct_fields__))


def page(report: Methods) -> Page:
    """Lay the report out."""
    rows = []
    for method in report.methods:
        kept = "" if method.accepted_drafts is None else f"{method.accepted_drafts:.0%}"
        tokens_per_s, latency_ms, ratio = report.theirs[method.name]
        ours = (f"{method.tokens_per_s:,.0f}", f"{method.latency_ms:,.0f}", f"{method.ratio:.2f}×")
        theirs = (f"{tokens_per_s}", f"{latency_ms}", f"{ratio:g}×")
        rows.append((method.name, *ours, f"{method.passes_per_token:.2f}", kept, *theirs))
    columns = ("", "tokens/s", "ms", "ratio", "passes", "kept", "theirs", "ms", "ratio")
    return Page(
        title=f"Whole requests with {report.model}, batches of {report.workload.batch}",
        sheets=(Sheet(columns, tuple(rows)),),
        notes=tuple(_notes(report)),
        plot=Plot(
            x="tokens/s, all requests together",
            y="latency of a request (ms)",
            lines={method.name: ((method.tokens_per_s, method.latency_ms),) for method in report.methods},
        ),
    )


def _notes(report: Methods) -> Iterator[str]:
    baseline, speculative, _, both = report.methods
    rounds = report.workload.rounds
    many = f"Medians of {rounds} rounds." if rounds > 1 else "One round."
    yield f"ms: of a request, median; passes: of a token; kept: of the drafts proposed. {many}"
    yield f"{report.workload.drafts}, up to {report.workload.max_draft_tokens} at a time."
    if not report.workload.drafts.everywhere:
        yield "They are made where passes with them are faster by the clock: a few, now and then, find out."
    spread = "; in brackets, 95 % of resamplings of the rounds" if both.gain and both.gain.low else ""
    yield f"Speed with drafts to that without: one by one {speculative.gain}, in batches {both.gain}{spread}."
    yield (
        "theirs: what mlx-parallm's document tells of a GPU, where a pass is bound by reading the weights: more tokens "
        "in it cost almost nothing."
    )
    yield (
        f"What bounds ours: the baseline reads {baseline.gigabytes_per_s:.1f} GB of weights a second; both together "
        f"make {both.gflops:.0f} of this machine's {report.machine['gflops']:.0f} GFLOP/s; the rest is overhead."
    )

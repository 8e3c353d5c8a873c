"""Decoding of a token per session and pass, by our runner and by mlx-lm's batch cache in turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from statistics import median
from time import perf_counter
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import BatchKVCache

from worker.commands.bench import stages
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.models import Subject, bare_runner
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.progress import tracked
from worker.commands.bench.stages import Stopwatch
from worker.core.rows import Row, SampleSpec, sampled_tokens
from worker.engine.model import StreamingModel

_ROUNDS = 3  # of all steps, ours and theirs in turns; the first tokens of each are not measured
_TOKEN = 5  # the token read; the speed does not depend on it


class Workload(msgspec.Struct, frozen=True):
    """The work of every session."""

    source_tokens: int
    steps: int  # tokens measured


class Point(msgspec.Struct, frozen=True):
    """The figures for one number of sessions."""

    rows: int
    tokens_per_s: float  # of all of them, median over the rounds
    mlx_lm_tokens_per_s: float
    ratio: float  # ours to mlx-lm's
    speedup: float  # ours to the better of the two with the first number of sessions
    stages_ms: dict[str, float]  # of a pass


class Decoding(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    model: Subject
    workload: Workload
    machine: dict[str, Any]
    points: tuple[Point, ...]


def measure(model: StreamingModel, subject: Subject, rows: Sequence[int], workload: Workload) -> Decoding:
    """Measure the speed for each number of sessions."""
    machine = machine_facts()
    points: list[Point] = []
    for number in tracked(rows, "numbers of sessions"):
        point = _point(model, number, workload, subject.kv_bits)
        base = points[0] if points else point
        best = max(base.tokens_per_s, base.mlx_lm_tokens_per_s)
        points.append(msgspec.structs.replace(point, speedup=round(point.tokens_per_s / best, 2)))
    return Decoding(subject, workload, machine, tuple(points))


def _point(model: StreamingModel, number: int, workload: Workload, kv_bits: int) -> Point:
    ours, theirs, tokens = [], [], number * workload.steps
    for _ in range(_ROUNDS):
        ours.append(tokens / _timed(_ours(model, number, workload, kv_bits), workload.steps))
        theirs.append(tokens / _timed(_theirs(model, number, workload), workload.steps))
    watch = Stopwatch()
    _timed(_ours(model, number, workload, kv_bits), workload.steps, watch)
    mine, other = median(ours), median(theirs)
    return Point(number, round(mine, 1), round(other, 1), round(mine / other, 3), 1.0, watch.ms_a_pass())


def _timed(ticks: Iterator[None], steps: int, watch: Stopwatch | None = None) -> float:
    for _ in range(2):  # the source, and a token as a warm-up
        next(ticks)
    start_s = perf_counter()
    for _ in range(steps):
        with watch.watching() if watch else nullcontext():
            next(ticks)
    return perf_counter() - start_s


def _ours(model: StreamingModel, number: int, workload: Workload, kv_bits: int) -> Iterator[None]:
    runner = bare_runner(model, kv_bits)
    lanes = [(i, 0) for i in range(number)]
    source = (_TOKEN,) * workload.source_tokens
    outputs = runner.run([Row(lane, source, (_TOKEN,), 0, 0, SampleSpec()) for lane in lanes])
    yield
    written = 1
    while True:
        tokens = [sampled_tokens(output) for output in outputs]
        outputs = runner.run(
            [Row(lane, (), last, written, 0, SampleSpec()) for lane, last in zip(lanes, tokens, strict=True)]
        )
        written += 1
        yield


def _theirs(model: StreamingModel, number: int, workload: Workload) -> Iterator[None]:
    run: Callable[..., mx.array] = model.inner
    caches = [BatchKVCache([0] * number) for _ in range(model.num_layers)]
    tokens = mx.full((number, workload.source_tokens + 1), _TOKEN)
    while True:
        tokens = mx.argmax(run(tokens, cache=caches)[:, -1:], axis=-1)
        tokens.tolist()  # a server sends each token to its client
        yield


def page(report: Decoding) -> Page:
    """Lay the report out."""
    rows = [
        (
            str(point.rows),
            f"{point.tokens_per_s:,.0f}",
            f"{point.mlx_lm_tokens_per_s:,.0f}",
            f"{point.ratio:.2f}",
            f"{point.speedup:.2f}×",
        )
        for point in report.points
    ]
    steps = report.workload.steps
    return Page(
        title=f"Decoding with {report.model}, {report.workload.source_tokens} source tokens",
        sheets=(
            Sheet(("sessions", "tokens/s", "mlx-lm", "ratio", "speed-up"), tuple(rows)),
            stages.sheet("sessions", {point.rows: point.stages_ms for point in report.points}),
        ),
        notes=(
            f"Tokens a second of all sessions, medians of {_ROUNDS} rounds of {steps} tokens each, in turns.",
            f"Speed-up: ours to the better of the two with {report.points[0].rows}.",
            stages.NOTE,
        ),
        plot=Plot(
            x="sessions",
            y="tokens/s, all sessions together",
            lines={
                "Decalage": tuple((point.rows, point.tokens_per_s) for point in report.points),
                "mlx-lm, batched": tuple((point.rows, point.mlx_lm_tokens_per_s) for point in report.points),
            },
            has_log_x=True,
        ),
    )

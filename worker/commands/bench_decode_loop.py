"""Sessions that write a token a tick through our runner and through mlx-lm's batch cache, in turns."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import BatchKVCache
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.commands import bench_machine
from worker.commands.bench_model import SHAPES, random_model, runner_of
from worker.commands.translation import load_model
from worker.core.ports import Draw, Row
from worker.engine.model import StreamingModel

_ROUNDS = 3  # of all steps, ours and theirs by turns; the first tokens of each are not measured
_TOKEN = 5  # what is read: speed does not depend on it


class Point(msgspec.Struct, frozen=True):
    """So many sessions."""

    rows: int
    tokens_per_s: float  # of all of them, median over the rounds
    mlx_lm_tokens_per_s: float
    ratio: float  # ours to mlx-lm's
    speedup: float  # ours to ours with the first number of sessions


class Decoding(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    model: str
    num_parameters: int
    source_tokens: int
    steps: int
    machine: dict[str, Any]
    points: tuple[Point, ...]


def measure(name: str, rows: Sequence[int], source_tokens: int, steps: int) -> Decoding:
    """The speeds for each number of sessions. Raises EngineError for a model that cannot be had."""
    machine = bench_machine.facts()
    model = random_model(name) if name in SHAPES else load_model(name).engine
    points: list[Point] = []
    for number in rows:
        ours, theirs = [], []
        for _ in range(_ROUNDS):
            ours.append(number * steps / _timed(_ours(model, number, source_tokens), steps))
            theirs.append(number * steps / _timed(_theirs(model, number, source_tokens), steps))
        mine, other = median(ours), median(theirs)
        first = points[0].tokens_per_s if points else mine
        points.append(Point(number, round(mine, 1), round(other, 1), round(mine / other, 3), round(mine / first, 2)))
    return Decoding(name, model.num_parameters, source_tokens, steps, machine, tuple(points))


def _timed(ticks: Iterator[None], steps: int) -> float:
    for _ in range(2):  # the source, and a token that builds what the others find
        next(ticks)
    start_s = perf_counter()
    for _ in range(steps):
        next(ticks)
    return perf_counter() - start_s


def _ours(model: StreamingModel, number: int, source_tokens: int) -> Iterator[None]:
    runner = runner_of(model)
    lanes = [(i, 0) for i in range(number)]
    source = (_TOKEN,) * source_tokens
    sampled = runner.run([Row(lane, source, (_TOKEN,), 0, 0, Draw()) for lane in lanes])
    yield
    written = 1
    while True:
        tokens = [each.tokens for each in sampled]
        sampled = runner.run(
            [Row(lane, (), last, written, 0, Draw()) for lane, last in zip(lanes, tokens, strict=True)]
        )
        written += 1
        yield


def _theirs(model: StreamingModel, number: int, source_tokens: int) -> Iterator[None]:
    run: Callable[..., mx.array] = model.inner
    caches = [BatchKVCache([0] * number) for _ in range(model.num_layers)]
    tokens = mx.full((number, source_tokens + 1), _TOKEN)
    while True:
        tokens = mx.argmax(run(tokens, cache=caches)[:, -1:], axis=-1)
        tokens.tolist()  # as a server would: each token goes to its client
        yield


def show(report: Decoding) -> None:
    """All of it on stdout."""
    console = Console(highlight=False)
    size = report.num_parameters / 1e6
    console.print(Text(f"Decoding with {report.model}, {size:.1f} M parameters, {report.source_tokens} source tokens"))
    table = Table()
    for name in ("sessions", "tokens/s", "mlx-lm", "ratio", "speed-up"):
        table.add_column(name, justify="right")
    for point in report.points:
        table.add_row(
            str(point.rows),
            f"{point.tokens_per_s:,.0f}",
            f"{point.mlx_lm_tokens_per_s:,.0f}",
            f"{point.ratio:.2f}",
            f"{point.speedup:.1f}×",
        )
    console.print(table)
    notes = [f"Tokens a second of all sessions, medians of {_ROUNDS} rounds of {report.steps} tokens each, in turns."]
    for line in (*notes, *bench_machine.lines(report.machine)):
        console.print(Text(line, style="dim"), soft_wrap=True)

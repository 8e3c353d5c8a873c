"""Speakers at a steady pace: their words enter the sessions on time, and passes run as fast as possible."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import msgspec

from protocol import InputTextAppend, InputTextFinalize, Session, SessionClose
from worker.commands import output
from worker.commands.bench.audience import Audience
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.models import Harness, Subject
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.sessions import close, create, hear, write
from worker.commands.bench.speech import Heard, SkippingClock, speech
from worker.commands.faults import CommandError
from worker.commands.talk import Words
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions
from worker.evaluation.policies import policy_name

_MOST = 4096  # speakers; the search ends there


class Workload(msgspec.Struct, frozen=True):
    """The speech, the limit of its delay, and the limits of a pass."""

    seconds: float
    pace: float  # words a second of each
    limit_ms: float  # for the 95th percentile of the delays
    seed: int
    max_batch_size: int  # sessions in a pass
    max_draft_tokens: int  # of a session, from its own text
    batch_timeout_ms: int  # how long an idle worker waits for a second session; 0: not measured


class Point(msgspec.Struct, frozen=True):
    """The figures for one number of speakers."""

    speakers: int
    words: int  # written
    p50_ms: float
    p95_ms: float
    rows_per_pass: float
    busy: float  # part of the time spent computing; above 1, words wait longer and longer


class Serving(msgspec.Struct, frozen=True):
    """The figures of one way to serve."""

    most_speakers: int  # the largest number measured up to which the limit was kept; 0: not even the first
    points: tuple[Point, ...]


class Mixed(msgspec.Struct, frozen=True):
    """The figures of one run on one machine."""

    model: Subject
    policy: str
    workload: Workload
    machine: dict[str, Any]
    together: Serving
    alone: Serving  # the baseline: one session a pass
    waiting: Serving | None  # like `together`, with `batch_timeout_ms`; None: not measured


class Scenario(msgspec.Struct, frozen=True):
    """The model, the options of the sessions, the text and the workload."""

    harness: Harness
    session: Session
    sentences: Sequence[Words]
    workload: Workload


def measure(scenario: Scenario, numbers: Sequence[int] | None) -> Mixed:
    """Measure the delays for these numbers of speakers; None: search for the largest that keeps the limit."""
    machine, workload = machine_facts(), scenario.workload
    budget = Budget(max_rows=workload.max_batch_size, max_draft_tokens=workload.max_draft_tokens)
    wait_ms = workload.batch_timeout_ms
    return Mixed(
        model=scenario.harness.subject,
        policy=policy_name(scenario.session),
        workload=workload,
        machine=machine,
        together=_serving(scenario, budget, numbers),
        alone=_serving(scenario, msgspec.structs.replace(budget, max_rows=1), numbers),
        waiting=_serving(scenario, budget, numbers, wait_ms) if wait_ms else None,
    )


def _serving(scenario: Scenario, budget: Budget, numbers: Sequence[int] | None, wait_ms: int = 0) -> Serving:
    points: dict[int, Point] = {}

    def keeps_limit(number: int) -> bool:
        with output.busy(f"{number} speakers, up to {budget.max_rows} sessions a pass"):
            points[number] = _point(scenario, budget, number, wait_ms)
        return points[number].p95_ms < scenario.workload.limit_ms

    if numbers is None:
        most = largest(keeps_limit, _MOST)
    else:
        late = [number for number in sorted(set(numbers)) if not keeps_limit(number)]
        most = max((number for number in points if number < min(late, default=_MOST + 1)), default=0)
    return Serving(most, tuple(points[number] for number in sorted(points)))


def largest(holds: Callable[[int], bool], maximum: int) -> int:
    """Find a number that `holds`, within a tenth of the first that does not; 0 if 1 does not hold.

    It calls `holds` O(log) times: for each power of two, then between the last two.

    >>> largest(lambda number: number <= 6, 100), largest(lambda number: False, 100), largest(lambda number: True, 4)
    (6, 0, 4)
    """
    low, high = 0, 1
    while high <= maximum and holds(high):
        low, high = high, 2 * high
    high = min(high, maximum + 1)
    while high - low > max(1, low // 10):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _point(scenario: Scenario, budget: Budget, number: int, wait_ms: int) -> Point:
    workload, counters = scenario.workload, scenario.harness.runner.counters
    sessions, passes, forwards = scenario.harness.sessions(budget), counters.passes, counters.forwards
    clock = SkippingClock(scenario.harness.clock_s)
    coming = speech(number, scenario.sentences, workload.pace, workload.seed)
    audience = Audience(coming, partial(_hear, sessions, scenario.session), seconds=workload.seconds, clock=clock)
    delays_ms: list[int] = []
    while True:  # until all words are written, however late, because the late words matter most
        audience.listen()
        written = write(sessions, scenario.harness.engine, clock.now_ms)
        if written is not None:
            delays_ms += [word.delay_ms for _, word in written]
        elif audience.has_heard_all:
            break
        else:
            audience.wait(wait_ms, lambda talks: len(talks) >= min(budget.max_rows, len(sessions)))
    spent_s = clock.now_s() - clock.skipped_s
    close(sessions, scenario.harness.engine)
    if not delays_ms:
        raise CommandError(f"nothing was written in {workload.seconds:g} s of speech; give --seconds more of them")
    delays_ms.sort()
    return Point(
        speakers=number,
        words=len(delays_ms),
        p50_ms=median(delays_ms),
        p95_ms=delays_ms[int(0.95 * (len(delays_ms) - 1))],
        rows_per_pass=round((counters.forwards - forwards) / max(1, counters.passes - passes), 2),
        busy=round(spent_s / workload.seconds, 3),
    )


def _hear(sessions: Sessions, session: Session, heard: Heard) -> None:
    now_ms = int(1000 * heard.at_s)
    if heard.talk not in sessions:
        create(sessions, heard.talk, session, now_ms)
    hear(sessions, heard.talk, InputTextAppend(text=heard.word), now_ms)
    if heard.ends_sentence:
        hear(sessions, heard.talk, InputTextFinalize(), now_ms)
    if heard.ends_talk:
        hear(sessions, heard.talk, SessionClose(), now_ms)


def page(report: Mixed) -> Page:
    """Lay the report out."""
    workload, together, alone = report.workload, report.together, report.alone
    return Page(
        title=f"Speakers of {workload.pace:g} words/s with {report.model}, {report.policy}",
        sheets=(
            _sheet(f"Up to {workload.max_batch_size} sessions in one pass", together),
            _sheet("Baseline: each session a pass", alone),
            *([_sheet(f"Waiting {workload.batch_timeout_ms} ms for others", report.waiting)] if report.waiting else []),
        ),
        notes=(
            f"p95 below {workload.limit_ms:g} ms: up to {together.most_speakers} speakers at once; a pass for each "
            f"session: up to {alone.most_speakers}.",
            "Delay of a target word behind the last source word it waited for. Waiting is skipped; Redis is left out.",
            f"{workload.seconds:g} s of speech for each number of speakers, seed {workload.seed}.",
        ),
        plot=Plot(
            x="speakers at once",
            y="delay of a word (ms)",
            lines={
                "p95, one pass for all": tuple((point.speakers, point.p95_ms) for point in together.points),
                "p50, one pass for all": tuple((point.speakers, point.p50_ms) for point in together.points),
                "p95, a pass for each": tuple((point.speakers, point.p95_ms) for point in alone.points),
            },
            level=("limit", workload.limit_ms),
            has_log_x=True,
            has_log_y=True,
        ),
    )


def _sheet(title: str, serving: Serving) -> Sheet:
    rows = [
        (
            str(point.speakers),
            f"{point.p50_ms:,.0f}",
            f"{point.p95_ms:,.0f}",
            f"{point.words:,}",
            f"{point.rows_per_pass:.1f}",
            f"{point.busy:.0%}",
        )
        for point in serving.points
    ]
    return Sheet(("speakers", "p50 ms", "p95 ms", "words", "rows a pass", "busy"), tuple(rows), title=title)

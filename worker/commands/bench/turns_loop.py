"""The latency of words over many turns of long sessions."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import msgspec

from protocol import InputTextAppend, InputTextFinalize, Session
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.memory import Memory, memory_of, memory_sheet
from worker.commands.bench.models import Harness, Subject
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.progress import tracked
from worker.commands.bench.sessions import close, create, hear, write
from worker.commands.talk import Words
from worker.core.sessions import Sessions
from worker.evaluation.policies import policy_name

_PARTS = 10  # of all turns; the first and the last part are compared


class Workload(msgspec.Struct, frozen=True):
    """The number of sessions, and of the turns of each."""

    turns: int
    sessions: int

    @property
    def window(self) -> int:
        """The number of first and of last turns that are compared."""
        return max(1, self.turns // _PARTS)


class Span(msgspec.Struct, frozen=True):
    """The latency of the words of some turns of all sessions."""

    name: str
    words: int
    median_ms: float
    p95_ms: float


class Turns(msgspec.Struct, frozen=True):
    """The figures of one run on one machine."""

    model: Subject
    policy: str
    workload: Workload
    machine: dict[str, Any]
    spans: tuple[Span, ...]  # first, last, newcomers during the last, all
    ratio: float  # of the medians, last to newcomers
    memory: Memory
    medians_ms: tuple[float, ...]  # of each turn


def measure(harness: Harness, session: Session, sentences: Sequence[Words], workload: Workload) -> Turns:
    """Measure the latency of words turn by turn, and the memory of the sessions."""
    machine = machine_facts()
    window, sessions = workload.window, harness.sessions()
    old, new = ([f"{kind} session {i}" for i in range(workload.sessions)] for kind in ("old", "new"))
    for name in old + new:
        create(sessions, name, session)

    def turn(names: Sequence[str], number: int) -> list[float]:
        # Sentences repeat after `window` turns, so that the compared turns have the same ones.
        said = {name: sentences[(number % window + i) % len(sentences)] for i, name in enumerate(names)}
        return _turn(harness, sessions, said)

    turn(new, 0)  # a warm-up
    turns: list[list[float]] = []
    newcomers: list[list[float]] = []
    for number in tracked(range(workload.turns), "turns"):
        turns.append(turn(old, number))
        if number >= workload.turns - window:  # in turns, because the speed of a machine varies
            newcomers.append(turn(new, number))
    last, newest = _span(f"last {window}", turns[-window:]), _span("newcomers meanwhile", newcomers)
    memory = memory_of(harness, sessions, sentences)
    close(sessions, harness.engine)
    return Turns(
        model=harness.subject,
        policy=policy_name(session),
        workload=workload,
        machine=machine,
        spans=(_span(f"first {window}", turns[:window]), last, newest, _span("all", turns)),
        ratio=round(last.median_ms / newest.median_ms, 3),
        memory=memory,
        medians_ms=tuple(round(median(latencies_ms), 3) for latencies_ms in turns if latencies_ms),
    )


def _turn(harness: Harness, sessions: Sessions, said: dict[str, Words]) -> list[float]:
    """Give all sessions a word at once, let them write, and so on; return the latency of each word in ms."""
    latencies_ms: list[float] = []
    for i in range(max(map(len, said.values()))):
        start_s = harness.clock_s()
        for name, words in said.items():
            if i < len(words):
                hear(sessions, name, InputTextAppend(text=words[i]))
            if i == len(words) - 1:
                hear(sessions, name, InputTextFinalize())
        latencies_ms += _written(harness, sessions, start_s)
    return latencies_ms


def _written(harness: Harness, sessions: Sessions, start_s: float) -> Iterator[float]:
    while (written := write(sessions, harness.engine)) is not None:
        waited_ms = 1000 * (harness.clock_s() - start_s)
        yield from [waited_ms] * len(written)


def _span(name: str, turns: Sequence[Sequence[float]]) -> Span:
    waits = sorted(ms for turn in turns for ms in turn)
    return Span(name, len(waits), round(median(waits), 3), round(waits[int(0.95 * (len(waits) - 1))], 3))


def page(report: Turns) -> Page:
    """Lay the report out."""
    rows = [(span.name, f"{span.words:,}", f"{span.median_ms:.1f}", f"{span.p95_ms:.1f}") for span in report.spans]
    workload, first = report.workload, report.spans[0]
    return Page(
        title=f"{workload.turns} turns of {workload.sessions} sessions with {report.model}, {report.policy}",
        sheets=(
            Sheet(("turns", "words", "median ms", "p95 ms"), tuple(rows), title="Latency of a word"),
            memory_sheet(report.memory),
        ),
        notes=(f"Last to newcomers, of the medians: {report.ratio:.2f}. They have the same sentences, turn about.",),
        plot=Plot(
            x="turn",
            y="latency of a word, median of a turn (ms)",
            lines={"all sessions": tuple(enumerate(report.medians_ms, 1))},
            level=(f"the first {workload.window} turns", first.median_ms),
        ),
    )

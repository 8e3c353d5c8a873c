"""The report of a chaos run: a verdict and its figures."""

from collections.abc import Iterator, Sequence

import msgspec

from tests.chaos.check import Findings, compare
from tests.chaos.run import Outcome
from tests.chaos.takeovers import Waits, together, waits


class Report(msgspec.Struct, kw_only=True):
    """One run under faults, compared with the run without."""

    server: str
    sessions: int
    source_words: int
    target_events: int
    findings: Findings
    stale_commits: int
    fenced_commits: int
    duplicates_suppressed: int
    replayed_words: int
    takeover: Waits  # after SIGKILL
    handover: Waits  # after SIGTERM
    faults: dict[str, int]
    failures: list[str]
    seconds: float

    @property
    def problems(self) -> list[str]:
        """The reasons why the run has failed; empty: it has not."""
        findings = self.findings
        counts = {"lost": findings.lost, "duplicated": findings.duplicated, "reordered": findings.reordered}
        counts |= {"different": findings.different, "published by a stale epoch": self.stale_commits}
        problems = [f"{number} events {what}" for what, number in counts.items() if number]
        if "hold" in self.faults and not self.fenced_commits:
            problems.append("no commit was fenced, so it is not known whether any would be")
        return problems + self.failures


def report(server: str, clean: Outcome, faulty: Outcome, *, lease_ms: int) -> Report:
    """Compare the faulty run with the clean one."""
    expected = {name: [event for _, event in clean.streams[name]] for name in faulty.streams}
    takeover, handover = waits(faulty.oustings, faulty.speakers, faulty.listeners, lease_ms=lease_ms)
    return Report(
        server=server,
        sessions=len(expected),
        source_words=sum(speaker.talk.num_words for speaker in faulty.speakers.values()),
        target_events=sum(map(len, expected.values())),
        findings=compare(expected, faulty.streams),
        stale_commits=faulty.stale,
        fenced_commits=faulty.fenced,
        duplicates_suppressed=faulty.counters["duplicates"],
        replayed_words=faulty.counters["replayed_words"],
        takeover=takeover,
        handover=handover,
        faults=faulty.faults,
        failures=clean.failures + faulty.failures,
        seconds=round(faulty.seconds, 1),
    )


def lines(reports: Sequence[Report], seed: int) -> Iterator[str]:
    """Yield the lines of the report for people."""
    for entry in reports:
        findings = entry.findings
        faults = ", ".join(f"{number} {kind}" for kind, number in sorted(entry.faults.items()))
        wrong = f"{findings.lost} lost, {findings.duplicated} duplicated, {findings.reordered} reordered"
        size = f"{entry.sessions} sessions, {entry.source_words:,} source words, {entry.target_events:,} target events"
        yield f"{entry.server}: {size}, {entry.seconds} s"
        yield f"  faults       {faults}"
        yield f"  output       {wrong}, {findings.different} different"
        yield f"  stale epochs {entry.fenced_commits} commits fenced, {entry.stale_commits} published"
        yield f"  suppressed   {entry.duplicates_suppressed} duplicates; {entry.replayed_words} words replayed"
        yield f"  takeover     {_waits(entry.takeover)} (SIGKILL to first new word)"
        yield f"  hand-over    {_waits(entry.handover)} (SIGTERM)"
        yield from (f"  FAILED       {problem}" for problem in entry.problems)
    if len(reports) > 1:
        yield "all of them"
        yield f"  takeover     {_waits(together(entry.takeover for entry in reports))}"
        yield f"  hand-over    {_waits(together(entry.handover for entry in reports))}"
    verdict = "FAILED" if any(entry.problems for entry in reports) else "ok"
    yield f"{verdict}; the same again: make chaos SEED={seed}"


def _waits(waits: Waits) -> str:
    if waits.p50_s is None:
        return "no session waited"
    return (
        f"p50 {waits.p50_s:.2f} s, p99 {waits.p99_s:.2f} s, longest {waits.longest_s:.2f} s, {waits.samples} sessions"
    )

"""Comparing a session's target stream with the one of a run without faults."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

Event = dict[str, Any]
Entry = tuple[str, Event]  # entry id, event
_TIMED: Final = ("elapsed_ms", "delay_ms", "source_id")
"""Fields that depend on a clock; all others are compared: seq, word, text, tokens and source_words_read."""


class Findings(msgspec.Struct):
    """Numbers of wrong events, over all sessions."""

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    different: int = 0  # other content than without faults, or an entry id that is not the event's number
    sessions: list[str] = []  # those with wrong events

    @property
    def is_clean(self) -> bool:
        """Whether no event is wrong."""
        return not (self.lost or self.duplicated or self.reordered or self.different)


def compare(expected: Mapping[str, Sequence[Event]], found: Mapping[str, Sequence[Entry]]) -> Findings:
    """Count the wrong events in the streams that were `found`, by session."""
    findings = Findings()
    for session_id, events in expected.items():
        before = msgspec.to_builtins(findings)
        _compare_one({event["seq"]: _untimed(event) for event in events}, found.get(session_id, ()), findings)
        if msgspec.to_builtins(findings) != before:
            findings.sessions.append(session_id)
    return findings


def _compare_one(expected: Mapping[int, Event], found: Iterable[Entry], findings: Findings) -> None:
    seen: set[int] = set()
    highest = 0
    for entry_id, event in found:
        seq = event["seq"]
        if seq in seen:
            findings.duplicated += 1
            continue
        seen.add(seq)
        findings.reordered += seq < highest
        highest = max(highest, seq)
        findings.different += entry_id != f"{seq}-0" or _untimed(event) != expected.get(seq)
    findings.lost += len(expected.keys() - seen)


def _untimed(event: Event) -> Event:
    return {name: value for name, value in event.items() if name not in _TIMED}

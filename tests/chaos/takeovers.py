"""Waiting times of listeners after a worker was gone."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from statistics import quantiles
from typing import Final

import msgspec

from protocol import OutputTextDelta
from tests.chaos.faults import Ousting
from tests.chaos.listeners import Listener
from tests.chaos.speakers import Speaker

_WAITING_S: Final = 1.0
"""A session waits for its new worker if its needed word came before the old one's end, or this soon after it."""


class Waits(msgspec.Struct, frozen=True):
    """Waiting times in seconds, over all sessions that waited."""

    samples: int
    p50_s: float | None
    p99_s: float | None
    longest_s: float | None
    each_s: tuple[float, ...]


def waits(
    oustings: Sequence[Ousting], speakers: Mapping[str, Speaker], listeners: Mapping[str, Listener], *, lease_ms: int
) -> tuple[Waits, Waits]:
    """Return the waits after a SIGKILL, and those after a planned end.

    After a SIGKILL: from it to the first new word. Planned: from the end or the needed word, whichever was later, to
    the new word; the longest such wait of each session.
    """
    killed: list[float] = []
    planned: list[float] = []
    for ousting in oustings:
        for session_id in ousting.sessions & speakers.keys():
            # A killed worker's last words may be heard after its end; the next owner's only once the lease has run out.
            since_s = ousting.at_s + (0 if ousting.is_planned else lease_ms / 2000)
            words = list(_words_since(since_s, speakers[session_id], listeners[session_id]))
            if ousting.is_planned:
                planned += _longest(ousting.at_s, words)
            elif words and words[0][0] <= ousting.at_s + _WAITING_S:
                killed.append(words[0][1] - ousting.at_s)
    return _summary(killed), _summary(planned)


def _words_since(at_s: float, speaker: Speaker, listener: Listener) -> Iterator[tuple[float, float]]:
    # Yield, for each target word heard since then, when its last needed source word was said and when it was heard.
    before = [0, *accumulate(map(len, speaker.talk.sentences))]
    times = [heard_s for heard_s, _ in listener.heard]
    for heard_s, event in listener.heard[bisect_left(times, at_s) :]:
        if isinstance(event, OutputTextDelta):
            yield speaker.said_s[before[event.segment] + event.source_words_read - 1], heard_s


def _longest(at_s: float, words: Sequence[tuple[float, float]]) -> list[float]:
    near = [heard_s - max(at_s, said_s) for said_s, heard_s in words if said_s <= at_s + _WAITING_S]
    return [max(near)] if near else []


def _summary(samples: Sequence[float]) -> Waits:
    each_s = tuple(round(sample, 3) for sample in samples)
    if len(samples) < 2:
        only_s = each_s[0] if each_s else None
        return Waits(len(samples), only_s, only_s, only_s, each_s)
    hundredths = quantiles(samples, n=100, method="inclusive")
    return Waits(len(samples), round(hundredths[49], 3), round(hundredths[98], 3), max(each_s), each_s)


def together(many: Iterable[Waits]) -> Waits:
    """Summarise the waits of several runs as those of one run."""
    return _summary([sample for one in many for sample in one.each_s])

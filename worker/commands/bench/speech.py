"""Simulated speakers: words with their times, and a clock that skips idle time."""

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from random import Random
from typing import NamedTuple

from worker.commands.talk import Words


class Heard(NamedTuple):
    """A spoken word; `talk` names its talk among those of all speakers."""

    at_s: float
    talk: str
    word: str
    ends_sentence: bool
    ends_talk: bool


def speech(number: int, sentences: Sequence[Words], pace: float, seed: int) -> Iterator[Heard]:
    """Yield the words of `number` speakers, in order of time, without end, at `pace` words a second each.

    Each speaker starts at a random position of the talk; at its end, the next speaker begins it. The positions are
    independent and uniform, as they are for speakers who arrive by a Poisson process.
    """
    return merge(*(_speaker(i, sentences, pace, Random(f"{seed} {i}")) for i in range(number)))


def _speaker(index: int, sentences: Sequence[Words], pace: float, random: Random) -> Iterator[Heard]:
    talk = [(word, i == len(words)) for words in sentences for i, word in enumerate(words, 1)]
    place, turn, at_s = random.randrange(len(talk)), 0, random.random() / pace
    while True:
        word, ends_sentence = talk[place]
        yield Heard(at_s, f"{index}.{turn}", word, ends_sentence, place == len(talk) - 1)
        place, at_s = (place + 1) % len(talk), at_s + 1 / pace
        turn += place == 0


class SkippingClock:
    """A clock of the seconds since its creation: those of `clock_s`, and those skipped."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._offset_s = -clock_s()
        self.skipped_s = 0.0

    def now_s(self) -> float:
        """Return the time in seconds."""
        return self._clock_s() + self._offset_s

    def now_ms(self) -> int:
        """Return the time in whole milliseconds."""
        return int(1000 * self.now_s())

    def skip_to(self, at_s: float) -> None:
        """Advance to that time, unless it has passed."""
        ahead_s = max(0.0, at_s - self.now_s())
        self._offset_s += ahead_s
        self.skipped_s += ahead_s

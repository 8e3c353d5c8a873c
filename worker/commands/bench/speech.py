"""Simulated speakers: words with the times at which they are spoken, and a clock that skips idle time."""

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from random import Random
from typing import NamedTuple

from worker.commands.talk import Words


class Heard(NamedTuple):
    """A word that somebody has just said; `talk` is the talk that it belongs to, of all that there are."""

    at_s: float
    talk: str
    word: str
    ends_sentence: bool
    ends_talk: bool


def speech(number: int, sentences: Sequence[Words], pace: float, seed: int) -> Iterator[Heard]:
    """What so many speakers say, in order of time, without end: `pace` words a second each.

    A speaker is met somewhere in the talk; where it ends, the next one begins it. Given their number, speakers who come
    by a Poisson process are met at places that are independent and all alike.
    """
    return merge(*(_speaker(i, sentences, pace, Random(f"{seed} {i}")) for i in range(number)))


def _speaker(index: int, sentences: Sequence[Words], pace: float, random: Random) -> Iterator[Heard]:
    talk = [(word, i == len(words)) for words in sentences for i, word in enumerate(words, 1)]
    place, first, at_s = random.randrange(len(talk)), 0, random.random() / pace
    while True:
        word, ends_sentence = talk[place]
        yield Heard(at_s, f"{index}.{first}", word, ends_sentence, place == len(talk) - 1)
        place, at_s = (place + 1) % len(talk), at_s + 1 / pace
        first += place == 0


class SkippingClock:
    """Seconds since its making: those that `clock_s` counts, and those that were skipped."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._offset_s = -clock_s()
        self.skipped_s = 0.0

    def now_s(self) -> float:
        """What this clock shows."""
        return self._clock_s() + self._offset_s

    def now_ms(self) -> int:
        """The same in whole milliseconds."""
        return int(1000 * self.now_s())

    def skip_to(self, at_s: float) -> None:
        """It is that late, at least."""
        ahead_s = max(0.0, at_s - self.now_s())
        self._offset_s += ahead_s
        self.skipped_s += ahead_s

"""The speed of speakers, and the words that they keep back while faults are caused."""

import asyncio
from random import Random


class Pace:
    """A pace of `words_per_s` for each speaker, who keeps the last `reserve` words back until that is lowered.

    During a plan, some words are always kept back: every session stays open, so that each fault meets sessions, however
    slow the machine is.
    """

    def __init__(self, words_per_s: float | None, reserve: int = 0) -> None:
        self._words_per_s = words_per_s
        self.reserve = reserve
        self._lowered = asyncio.Event()

    def lower(self, reserve: int) -> None:
        """Keep at most this many words back from now on; with none, speak without delay."""
        self.reserve = min(self.reserve, reserve)
        if not self.reserve:
            self._words_per_s = None
        self._lowered.set()
        self._lowered = asyncio.Event()

    async def wait(self, dice: Random, words_left: int) -> None:
        """Wait until the next word is due, for a speaker with `words_left`."""
        if self._words_per_s is not None:
            await asyncio.sleep(dice.uniform(0.0, 2.0) / self._words_per_s)
        while words_left <= self.reserve:
            await self._lowered.wait()

"""How far and how fast the speakers may speak while faults are caused."""

import asyncio
from random import Random


class Pace:
    """Each speaker says so many words a second, and keeps the last `reserve` words back until that is lowered.

    While a plan is carried out, some are always kept back: every session stays open, so that each fault meets sessions,
    however slow the machine is.
    """

    def __init__(self, words_per_s: float | None, reserve: int = 0) -> None:
        self._words_per_s = words_per_s
        self.reserve = reserve
        self._lowered = asyncio.Event()

    def lower(self, reserve: int) -> None:
        """No more than so many words are kept back from now on; with none, there is no hurry or delay any more."""
        self.reserve = min(self.reserve, reserve)
        if not self.reserve:
            self._words_per_s = None
        self._lowered.set()
        self._lowered = asyncio.Event()

    async def wait(self, dice: Random, words_left: int) -> None:
        """It is time for the next word of a speaker who has so many left."""
        if self._words_per_s is not None:
            await asyncio.sleep(dice.uniform(0.0, 2.0) / self._words_per_s)
        while words_left <= self.reserve:
            await self._lowered.wait()

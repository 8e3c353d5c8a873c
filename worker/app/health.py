"""Liveness and readiness of a worker, with reasons: a dead worker must be restarted, an unready one recovers by itself.

`worker.io.health` serves both over HTTP.
"""

import asyncio
import time

from worker.app.engine import Engine
from worker.app.shards import Shards
from worker.io.health import Condition

_BEAT_S = 0.5
_STILL_S = 30.0  # a loop that has been blocked for this long is taken for dead


class Health:
    """The health of one worker. `beat` runs on the event loop; `condition` may be called from any thread."""

    def __init__(self, engine: Engine, shards: Shards) -> None:
        self.is_draining = False
        self._engine = engine
        self._shards = shards
        self._beat_s = time.monotonic()

    async def beat(self) -> None:
        """Record regularly that the event loop is alive; run until cancelled."""
        while True:
            self._beat_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)

    def condition(self) -> Condition:
        """Return what is wrong now. Without Redis a worker is unready, not dead: it continues once Redis is back."""
        still_s = time.monotonic() - self._beat_s
        dead = {
            f"the event loop has stood still for {still_s:.0f} s": still_s > _STILL_S,
            "the engine's thread has ended": not self._engine.is_alive,
        }
        unready = {
            "draining": self.is_draining,
            "Redis has not answered within the time of a lease": not self._shards.is_fresh,
        }
        return Condition(_true(dead), _true(unready))


def _true(reasons: dict[str, bool]) -> tuple[str, ...]:
    return tuple(reason for reason, holds in reasons.items() if holds)

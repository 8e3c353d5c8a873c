"""Limits of each key: requests a second, connections, and sessions opened here."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from producers.gateway.errors import RETRY_AFTER_S, ApiError

MAX_CALLERS: Final = 10_000
"""Callers whose recent requests are remembered; keys are far fewer."""


class TokenBucket:
    """Requests allowed: `burst` at once, `per_s` on average. Time is an argument, in seconds."""

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        self._per_s: Final = per_s
        self._burst: Final = burst
        self._left: float = burst
        self._at_s = now_s

    def take(self, now_s: float) -> float:
        """Take one request; return 0.0, or the seconds until the next one is allowed.

        >>> bucket = TokenBucket(2.0, 1, 0.0)
        >>> bucket.take(0.0), bucket.take(0.0), bucket.take(0.5)
        (0.0, 0.5, 0.0)
        """
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return (1 - self._left) / self._per_s
        self._left -= 1
        return 0.0


class RequestLimit:
    """A token bucket for each caller."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s: Final = per_s
        self._burst: Final = burst
        self._buckets: Final[dict[str | None, TokenBucket]] = {}

    def check(self, name: str | None, now_s: float) -> None:
        """Count a request. Raises ApiError when the caller has sent too many."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MAX_CALLERS:
                self._buckets.clear()
            bucket = self._buckets[name] = TokenBucket(self._per_s, self._burst, now_s)
        if wait_s := bucket.take(now_s):
            message = f"expected at most {self._per_s:g} requests a second of one key, got more: send fewer"
            raise ApiError(429, "rate_limit", message, retry_after_s=math.ceil(wait_s))


class ConnectionLimit:
    """Connections open now, for each caller."""

    def __init__(self, maximum: int) -> None:
        self._maximum: Final = maximum
        self._open: Final[dict[str | None, int]] = {}

    @property
    def num_open(self) -> int:
        """Open connections of all callers."""
        return sum(self._open.values())

    @contextmanager
    def hold(self, name: str | None) -> Iterator[None]:
        """Count a connection while the block runs. Raises ApiError when the caller has too many."""
        if self._open.get(name, 0) >= self._maximum:
            message = f"expected at most {self._maximum} connections of one key, got one more: close some"
            raise ApiError(429, "too_many_connections", message, retry_after_s=RETRY_AFTER_S)
        self._open[name] = self._open.get(name, 0) + 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

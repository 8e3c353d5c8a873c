"""Simulated speech for the sessions under test. The clock jumps to the next word whenever there is nothing to do."""

from collections.abc import Callable, Iterator, Set

from worker.commands.bench.speech import Heard, SkippingClock


class Audience:
    """`hear` is told what is said in the first `seconds`, in order; `coming` goes on for longer."""

    def __init__(
        self, coming: Iterator[Heard], hear: Callable[[Heard], None], *, seconds: float, clock: SkippingClock
    ) -> None:
        self._coming = coming
        self._tell = hear
        self._seconds = seconds
        self._clock = clock
        self._following = next(coming)

    @property
    def has_heard_all(self) -> bool:
        """Nothing more is said."""
        return self._following.at_s > self._seconds

    def listen(self) -> None:
        """All that has been said by now has been heard."""
        while not self.has_heard_all and self._following.at_s <= self._clock.now_s():
            self._hear()

    def wait(self, wait_ms: int, is_enough: Callable[[Set[str]], bool]) -> None:
        """A word has been said, and `wait_ms` have gone since, or the talks that were heard meanwhile are enough."""
        end_s, talks = self._following.at_s + wait_ms / 1000, set[str]()
        while not self.has_heard_all and self._following.at_s <= end_s:
            self._clock.skip_to(self._following.at_s)
            talks.add(self._hear())
            if is_enough(talks):
                return
        self._clock.skip_to(end_s)

    def _hear(self) -> str:
        heard, self._following = self._following, next(self._coming)
        self._tell(heard)
        return heard.talk

"""Simulated speech for the sessions under test. When there is no work, the clock jumps to the next word."""

from collections.abc import Callable, Iterator, Set

from worker.commands.bench.speech import Heard, SkippingClock


class Audience:
    """Calls `hear` with each word of the first `seconds` of speech, in order; `coming` must be longer than that."""

    def __init__(
        self, coming: Iterator[Heard], hear: Callable[[Heard], None], *, seconds: float, clock: SkippingClock
    ) -> None:
        self._coming = coming
        self._on_word = hear
        self._seconds = seconds
        self._clock = clock
        self._following = next(coming)

    @property
    def has_heard_all(self) -> bool:
        """Whether no word of the first `seconds` is left."""
        return self._following.at_s > self._seconds

    def listen(self) -> None:
        """Hear all words spoken until now."""
        while not self.has_heard_all and self._following.at_s <= self._clock.now_s():
            self._hear()

    def wait(self, wait_ms: int, is_enough: Callable[[Set[str]], bool]) -> None:
        """Skip to `wait_ms` after the next word and hear all words until then; stop early if their talks are enough."""
        end_s, talks = self._following.at_s + wait_ms / 1000, set[str]()
        while not self.has_heard_all and self._following.at_s <= end_s:
            self._clock.skip_to(self._following.at_s)
            talks.add(self._hear())
            if is_enough(talks):
                return
        self._clock.skip_to(end_s)

    def _hear(self) -> str:
        word, self._following = self._following, next(self._coming)
        self._on_word(word)
        return word.talk

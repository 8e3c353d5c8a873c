"""Who hears speakers as they come."""

from collections.abc import Iterator, Set

from hypothesis import given
from hypothesis import strategies as st

from worker.commands.bench.audience import Audience
from worker.commands.bench.speech import Heard, SkippingClock

SECONDS = 10.0
TIMES_S = st.lists(st.floats(0, 2 * SECONDS), min_size=1, max_size=20).map(sorted)


def coming(times_s: list[float]) -> Iterator[Heard]:
    """A word of two speakers in turn at these times, and one behind the end."""
    for i, at_s in enumerate([*times_s, 3 * SECONDS]):
        yield Heard(at_s, f"{i % 2}.0", f"word{i}", ends_sentence=False, ends_talk=False)


class Hall:
    """An audience whose clock goes only where it is skipped, and what it has heard when."""

    def __init__(self, times_s: list[float]) -> None:
        self.clock = SkippingClock(lambda: 0.0)
        self.heard: list[tuple[float, Heard]] = []
        self.audience = Audience(coming(times_s), self._hear, seconds=SECONDS, clock=self.clock)

    def _hear(self, heard: Heard) -> None:
        self.heard.append((self.clock.now_s(), heard))

    @property
    def at_s(self) -> list[float]:
        """When the words that were heard were said."""
        return [heard.at_s for _, heard in self.heard]


def never(talks: Set[str]) -> bool:
    """More could always come."""
    return False


def both(talks: Set[str]) -> bool:
    """Nobody else could follow."""
    return len(talks) == 2


@given(TIMES_S, st.integers(0, 5000))
def test_all_is_heard_once_and_not_before_it_is_said(times_s: list[float], wait_ms: int) -> None:
    """Whatever the wait, up to the end of the time and not beyond."""
    hall = Hall(times_s)
    while not hall.audience.has_heard_all:
        hall.audience.wait(wait_ms, never)
    assert hall.at_s == [at_s for at_s in times_s if at_s <= SECONDS]
    assert all(heard.at_s <= now_s + 1e-9 for now_s, heard in hall.heard)  # the clock adds up


def test_a_wait_is_for_the_first_word_and_whoever_follows_in_time() -> None:
    """It takes as long as asked, and what is said then is heard by listening."""
    hall = Hall([1.0, 1.5, 1.6, 2.5])
    hall.audience.wait(550, never)
    assert (hall.at_s, round(hall.clock.now_s(), 6)) == ([1.0, 1.5], 1.55)
    hall.clock.skip_to(1.7)
    hall.audience.listen()
    assert hall.at_s == [1.0, 1.5, 1.6]


def test_a_wait_ends_once_enough_have_spoken() -> None:
    """At that word, not at the end of the time."""
    hall = Hall([1.0, 1.2, 1.3])
    hall.audience.wait(5000, both)
    assert (hall.at_s, round(hall.clock.now_s(), 6)) == ([1.0, 1.2], 1.2)


def test_no_wait_is_for_one_word() -> None:
    """The clock stands where it was said."""
    hall = Hall([1.0, 1.0001])
    hall.audience.wait(0, never)
    assert (hall.at_s, hall.clock.now_s()) == ([1.0], 1.0)

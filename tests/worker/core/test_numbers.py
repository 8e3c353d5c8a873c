"""Several producers in one session: each event is taken, is a repetition, or is refused in an error; none vanishes."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import Error, InputTextAppend, SessionCreate, SessionUpdate
from protocol.events import SessionPatch
from tests.worker.core.drive import Driver
from worker.core import numbers
from worker.core.numbers import MAX_DIGESTS

CREATE = SessionCreate(seq=1, producer="a")


def append(text: str, seq: int, producer: str | None = None) -> InputTextAppend:
    return InputTextAppend(text=text, seq=seq, producer=producer)


def codes(driver: Driver) -> list[str]:
    return [event.code for event in driver.events["s"] if isinstance(event, Error)]


TURNS = st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20)


@given(TURNS, st.booleans())
def test_a_word_is_translated_or_its_loss_is_told(turns: list[tuple[str, bool]], has_names: bool) -> None:
    """Law: of two producers that do not know of each other, each event is taken or refused in an error, named or not.
    Where it arrives twice, the second time adds no word.
    """
    driver, nexts = Driver(), {"a": 2, "b": 2}
    driver.step(replace(CREATE, producer=None))
    for name, is_repeated in turns:
        event = append("same" if has_names else f"by-{name}", nexts[name], name if has_names else None)
        nexts[name] += 1
        num_words, num_errors = driver.state.source_words, len(codes(driver))
        driver.step(event)
        assert (driver.state.source_words - num_words) + (len(codes(driver)) - num_errors) == 1
        num_words = driver.state.source_words
        driver.step(*[event] * is_repeated)
        assert driver.state.source_words == num_words


def test_the_second_producer_takes_over_and_the_first_is_told() -> None:
    """From then on all that the first one sends is refused, and its numbers count for nothing."""
    driver = Driver()
    driver.step(CREATE, append("one", 2, "a"), append("two", 3, "b"), append("three", 3, "a"), append("four", 4, "a"))
    assert codes(driver) == ["producer_conflict"] * 2
    driver.step(append("five", 4, "b"))
    assert codes(driver) == ["producer_conflict"] * 2
    assert driver.state.source_words == 3


def test_an_unnamed_event_under_a_used_number_is_compared() -> None:
    """The same again is a repetition; another text, another kind of event, is another producer's."""
    driver = Driver()
    driver.step(replace(CREATE, producer=None), append("one", 2), append("one", 2), append("two", 2))
    driver.step(SessionUpdate(seq=2, session=SessionPatch(mode="completion")), append("three", 3))
    assert codes(driver) == ["producer_conflict"] * 2
    assert (driver.state.duplicates, driver.state.source_words) == (1, 2)


def test_only_the_newest_events_are_remembered() -> None:
    """An older number is taken for a repetition, as nothing tells."""
    driver = Driver()
    driver.step(replace(CREATE, producer=None), *(append("x", seq) for seq in range(2, MAX_DIGESTS + 9)))
    assert len(driver.state.digests) == MAX_DIGESTS
    assert numbers.take(driver.state, append("other", 3)) is None
    driver.step(append("other", 20))
    assert codes(driver) == ["producer_conflict"]

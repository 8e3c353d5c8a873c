"""A log behaves as the tuple of its items, however many others share its list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.core.append_log import Log

ITEMS = st.lists(st.integers(0, 3), max_size=4)


class Logs(RuleBasedStateMachine):
    """Logs made of each other, each beside the tuple that it should equal."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[Log[int], tuple[int, ...]]] = [(Log(), ())]

    @rule(data=st.data(), items=ITEMS)
    def extend(self, data: st.DataObject, items: list[int]) -> None:
        """Any log may be extended, the newest or an old one."""
        log, expected = data.draw(st.sampled_from(self.pairs))
        self.pairs.append((log.extend(items), (*expected, *items)))

    @rule(data=st.data(), item=st.integers(0, 3))
    def append(self, data: st.DataObject, item: int) -> None:
        """One by one, too."""
        log, expected = data.draw(st.sampled_from(self.pairs))
        self.pairs.append((log.append(item), (*expected, item)))

    @rule(data=st.data(), num_items=st.integers(0, 5))
    def without(self, data: st.DataObject, num_items: int) -> None:
        """What comes first may be dropped."""
        log, expected = data.draw(st.sampled_from(self.pairs))
        self.pairs.append((log.without(num_items), expected[num_items:]))

    @invariant()
    def logs_are_tuples(self) -> None:
        """Law: no log changes, whatever is made of it."""
        for log, expected in self.pairs:
            assert (tuple(log), len(log), bool(log)) == (expected, len(expected), bool(expected))
            assert log == expected
            assert (log == Log(expected)) is True
            assert hash(log) == hash(expected)
            assert list(reversed(log)) == list(reversed(expected))


TestLogs = Logs.TestCase


@given(before=ITEMS, items=ITEMS, start=st.integers(-9, 9), stop=st.one_of(st.none(), st.integers(-9, 9)))
def test_an_index_means_what_it_means_in_a_tuple(
    before: list[int], items: list[int], start: int, stop: int | None
) -> None:
    """From both ends, in slices that reach too far, and beyond the ends."""
    log, expected = Log([*before, *items]).without(len(before)).append(7), (*items, 7)
    assert log[start:stop] == expected[start:stop]
    if -len(expected) <= start < len(expected):
        assert log[start] == expected[start]
    else:
        with pytest.raises(IndexError, match=f"got {start}"):
            log[start]


def test_what_it_is_unlike() -> None:
    """Other items, other kinds."""
    assert Log((1, 2)) != (1, 3)
    assert Log((1,)) != [1]
    assert repr(Log((1,))) == "Log((1,))"
    with pytest.raises(ValueError, match="got 2"):
        Log((1, 2, 3))[::2]


def test_what_is_dropped_is_not_kept_for_ever() -> None:
    """A queue that lives long holds about as much as it has in it."""
    log = Log(range(3))
    for i in range(1000):
        log = log.append(i).without(1)
    assert len(log) == 3
    assert len(log._items) < 20


@given(values=st.lists(st.integers(0, 9)), value=st.integers(-1, 10))
def test_bisection_counts(values: list[int], value: int) -> None:
    """As many items as are at most that, by a key too."""
    log = Log([-5, *sorted(values)]).without(1)
    assert log.bisect_right(value) == sum(item <= value for item in values)
    words = Log("w" * item for item in sorted(values))
    assert words.bisect_right(value, key=len) == sum(item <= value for item in values)

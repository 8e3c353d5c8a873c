"""Slots: used and free ones add up, and a token's rank is found where it was put."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.kv.slots import Slots
from worker.engine.visibility import ContiguousLayout, GroupLayout, Layout

STEPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), max_size=12)


@given(STEPS, st.sampled_from([GroupLayout(0), GroupLayout(7), ContiguousLayout()]))
def test_slots_add_up(steps: list[tuple[int, int, int]], layout: Layout) -> None:
    """Whatever is read, written and rolled back: no slot has two tokens, none is lost, holes are filled first."""
    slots = Slots(128, layout)
    source: list[int] = []
    target: list[int] = []
    for num_source, num_target, num_back in steps:
        num_kept = max(0, len(target) - num_back)
        slots.trim_target(num_kept)
        del target[num_kept:]
        taken, metadata = slots.append(num_source, num_target)
        source += taken[:num_source]
        target += taken[num_source:]
        slots.check_invariants()
        assert slots.target_slots == target
        assert not set(source) & set(target)
        assert slots.ranks[source].tolist() == list(range(len(source)))
        assert slots.ranks[target].tolist() == [-1 - j for j in range(len(target))]
        assert slots.ranks[taken].tolist() == metadata.ranks
    assert slots.num_used == len(source) + len(target)
    assert slots.top <= sum(s + t for s, t, _ in steps)


def test_a_lane_cannot_start_behind_what_it_holds() -> None:
    """A row that starts where no token is would leave a gap that nobody sees."""
    slots = Slots(16, GroupLayout())
    slots.append(1, 2)
    with pytest.raises(ValueError, match="holds 2 target tokens, the row starts behind 3"):
        slots.trim_target(3)

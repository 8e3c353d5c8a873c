"""Slots: used and free ones add up, and who sees whom is what the order of reading says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.kv.slots import Placed, Slots, visible

STEPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), max_size=12)


@given(STEPS, st.sampled_from([0, 7, None]))
def test_slots_add_up(steps: list[tuple[int, int, int]], position_offset: int | None) -> None:
    """Whatever is read, written and rolled back: no slot has two tokens, none is lost, holes are filled first."""
    slots = Slots(128, position_offset)
    source: list[int] = []
    target: list[int] = []
    for num_source, num_target, num_back in steps:
        kept = max(0, len(target) - num_back)
        slots.trim(kept)
        del target[kept:]
        placed = slots.place(num_source, num_target)
        source += placed.slots[:num_source]
        target += placed.slots[num_source:]
        slots.check_invariants()
        assert placed.positions[:num_source] == list(range(len(source) - num_source, len(source)))
        if num_target and position_offset is not None:
            assert placed.positions[-1] == position_offset + len(target) - 1
        assert slots.targets == target
        assert not set(source) & set(target)
    assert slots.num_used == len(source) + len(target)
    assert slots.top <= sum(s + t for s, t, _ in steps)


def test_a_plain_target_stands_right_behind_its_source() -> None:
    """With φ None, positions go on from the source that was read with the first target token, and stay."""
    slots = Slots(16, None)
    assert slots.place(3, 0).positions == [0, 1, 2]
    assert slots.place(2, 1).positions == [3, 4, 5]
    assert slots.place(0, 2).positions == [6, 7]


def test_a_lane_cannot_start_behind_what_it_holds() -> None:
    """A row that starts where no token is would leave a gap that nobody sees."""
    slots = Slots(16, 0)
    slots.place(1, 2)
    with pytest.raises(ValueError, match="holds 2 target tokens, the row starts behind 3"):
        slots.trim(3)


PASSES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)).filter(lambda one: any(one[:2])),
    min_size=1,
    max_size=5,
)


@given(PASSES)
def test_who_sees_whom(passes: list[tuple[int, int, int]]) -> None:
    """Source sees earlier source; target sees all source read so far, the pass's too, and earlier target."""
    slots = Slots(32, 0)
    source: list[int] = []
    target: list[int] = []
    for num_source, num_target, num_back in passes:
        kept = max(0, len(target) - num_back)
        slots.trim(kept)
        placed = slots.place(num_source, num_target)
        source += placed.slots[:num_source]
        target[kept:] = placed.slots[num_source:]
        mask = visible(slots.ranks[None], [placed], width=8)[0]
        for t, slot in enumerate(placed.slots):
            own = source[: source.index(slot) + 1] if t < num_source else source + target[: target.index(slot) + 1]
            assert set(np.flatnonzero(mask[t]).tolist()) == set(own)
        assert (mask[len(placed.slots) :] == mask[len(placed.slots) - 1]).all()


@given(PASSES)
def test_one_pass_gives_back_what_each_saw(passes: list[tuple[int, int, int]]) -> None:
    """Fed at once with the visible_source of what was fed in turn, every token sees the tokens that it saw then."""
    kept, lane, num_source = Slots(32, 0), Slots(32, 0), 0
    visible_source: list[int] = []
    seen: list[set[int]] = []
    for coming, num_target, num_back in passes:
        start = max(0, len(visible_source) - num_back)
        num_source += coming
        kept.trim(start)
        placed = kept.place(coming, num_target)
        mask = visible(kept.ranks[None], [placed], width=8)[0, coming:]
        visible_source[start:] = [num_source] * num_target
        seen[start:] = [set(kept.ranks[mask[t]].tolist()) for t in range(num_target)]
    placed = lane.place(num_source, len(visible_source), visible_source)
    mask = visible(lane.ranks[None], [placed], width=32)[0, num_source:]
    assert [set(lane.ranks[mask[t]].tolist()) for t in range(len(visible_source))] == seen


def test_rows_of_a_pass_do_not_see_each_other() -> None:
    """Each row has its own sight, the shorter one padded."""
    one, other = Slots(4, 0), Slots(4, 0)
    placed: list[Placed] = [one.place(2, 1), other.place(1, 0)]
    mask = visible(np.stack([one.ranks, other.ranks]), placed, width=3)
    assert mask.tolist() == [
        [[True, False, False, False], [True, True, False, False], [True, True, True, False]],
        [[True, False, False, False]] * 3,
    ]

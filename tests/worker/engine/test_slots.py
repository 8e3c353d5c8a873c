"""Slots: used and free ones add up, and who sees whom is what the order of reading says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.slots import SOURCE, TARGET, Slots, visible

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
        placed, positions = slots.place(num_source, num_target)
        source += placed[:num_source]
        target += placed[num_source:]
        slots.check_invariants()
        assert positions[:num_source] == list(range(len(source) - num_source, len(source)))
        if num_target and position_offset is not None:
            assert positions[-1] == position_offset + len(target) - 1
        assert slots.targets == target
        assert not set(source) & set(target)
    assert slots.num_used == len(source) + len(target)
    assert slots.top <= sum(s + t for s, t, _ in steps)


def test_a_plain_target_stands_right_behind_its_source() -> None:
    """With φ None, positions go on from the source that was read with the first target token, and stay."""
    slots = Slots(16, None)
    assert slots.place(3, 0)[1] == [0, 1, 2]
    assert slots.place(2, 1)[1] == [3, 4, 5]
    assert slots.place(0, 2)[1] == [6, 7]


def test_a_lane_cannot_start_behind_what_it_holds() -> None:
    """A row that starts where no token is would leave a gap that nobody sees."""
    slots = Slots(16, 0)
    slots.place(1, 2)
    with pytest.raises(ValueError, match="holds 2 target tokens, the row starts behind 3"):
        slots.trim(3)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any), min_size=1, max_size=5))
def test_who_sees_whom(passes: list[tuple[int, int]]) -> None:
    """Source sees earlier source; target sees all source read so far, the pass's too, and earlier target."""
    slots, log = Slots(32, 0), []
    for step, count in enumerate(passes):
        placed, _ = slots.place(*count)
        fresh = [(slot, SOURCE if i < count[0] else TARGET) for i, slot in enumerate(placed)]
        log += fresh
        born = np.zeros((1, 32), np.int64)
        born[0, placed] = np.arange(1, len(placed) + 1)
        mask = visible(slots.kinds[None], born, [count], width=8)[0]
        old = len(log) - len(fresh)
        for t, (_, kind) in enumerate(fresh):
            before = log[: old + t + 1]
            expected = {slot for slot, other in before if other == SOURCE or kind == TARGET}
            if kind == TARGET:
                expected |= {slot for slot, other in log if other == SOURCE}
            assert set(np.flatnonzero(mask[t]).tolist()) == expected, step
        assert (mask[len(fresh) :] == mask[len(fresh) - 1]).all()

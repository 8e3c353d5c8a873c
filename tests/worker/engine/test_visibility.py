"""One rule of visibility and positions: cache, batch, replay and training agree on it, whatever came in which order."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.core.rows import Row, SampleSpec
from worker.engine.batch import BatchRow, ForwardBatch, make_batch
from worker.engine.kv.dual_cache import DualStreamingCache
from worker.engine.kv.pool import Pool
from worker.engine.kv.quantization import KVQuantization
from worker.engine.kv.slots import Slots
from worker.engine.visibility import (
    FREE,
    CacheState,
    ContiguousLayout,
    GroupLayout,
    Layout,
    attention_mask,
    create_streaming_attention_mask,
    streaming_mask,
)
from worker.training import pairs
from worker.training.objective import batch_mask

LENGTH = 128
Step = tuple[int, int, int]  # source tokens read, target tokens written, target tokens rolled back before
STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)).filter(lambda step: any(step[:2])),
    min_size=1,
    max_size=8,
)
LAYOUTS = st.sampled_from([GroupLayout(0), GroupLayout(7), ContiguousLayout()])


class Seen(NamedTuple):
    """What a token fed has: its position, and the ranks of the keys that it sees."""

    position: int
    ranks: frozenset[int]


class Told:
    """The rule in plain words, without arithmetic of ranks: what every token is to have."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.source: list[Seen] = []
        self.target: list[Seen] = []
        self.visible_source: list[int] = []
        self.first = 0

    def feed(self, step: Step) -> list[Seen]:
        """What the step's tokens have."""
        num_source, num_target, num_back = step
        kept = max(0, len(self.target) - num_back)
        del self.target[kept:], self.visible_source[kept:]
        for _ in range(num_source):
            self.source.append(Seen(len(self.source), frozenset(range(len(self.source) + 1))))
        if num_target and not self.target:
            self.first = self.layout.position_offset if isinstance(self.layout, GroupLayout) else len(self.source)
        for _ in range(num_target):
            number = len(self.target)
            own = {-1 - j for j in range(number + 1)}
            self.target.append(Seen(self.first + number, frozenset({*range(len(self.source)), *own})))
            self.visible_source.append(len(self.source))
        return self.source[len(self.source) - num_source :] + self.target[len(self.target) - num_target :]


def pool_of(num_rows: int) -> Pool:
    pool = Pool(1, LENGTH, KVQuantization())
    pool.grow(num_rows)
    return pool


def told_by(batch: ForwardBatch, group: int, row: int, slots: Slots, num_tokens: int) -> list[Seen]:
    """What a batch gives the tokens of one of its rows, which are the first of the pass."""
    mask = np.array(batch.attention.groups[group].visible_to(row, mx.arange(num_tokens)))
    positions = np.array(batch.positions)[0].tolist()
    ranks = slots.ranks[: mask.shape[1]]
    return [Seen(position, frozenset(ranks[line].tolist())) for position, line in zip(positions, mask, strict=False)]


@given(STEPS, LAYOUTS, st.booleans())
def test_the_batch_follows_the_rule(steps: Sequence[Step], layout: Layout, has_company: bool) -> None:
    """A row that reads, writes and rolls back, alone or beside another one whose rows are longer."""
    pool, told = pool_of(2), Told(layout)
    slots, beside = Slots(LENGTH, layout), Slots(LENGTH, GroupLayout(3))
    allocations = pool.allocate((0, 0), slots), pool.allocate((1, 0), beside)
    for step in steps:
        expected = told.feed(step)
        num_source, num_target, _ = step
        start = len(told.target) - num_target
        slots.trim_target(start)
        row = Row((0, 0), (5,) * num_source, (6,) * num_target, start, 0, SampleSpec())
        rows = [BatchRow(allocations[0], row)]
        if has_company:
            rows.append(BatchRow(allocations[1], Row((1, 0), (5,) * 9, (), 0, 0, SampleSpec())))
        batch = make_batch([(pool, rows)])
        assert told_by(batch, 0, 0, slots, num_source + num_target) == expected


@given(STEPS, LAYOUTS)
def test_the_dual_cache_follows_the_rule(steps: Sequence[Step], layout: Layout) -> None:
    """The documents' cache, slots closed up after a roll-back."""
    cache, told = DualStreamingCache(layout), Told(layout)
    for step in steps:
        expected = told.feed(step)
        num_source, num_target, _ = step
        cache.trim_target(cache.target_offset - (len(told.target) - num_target))
        cache.announce(num_source, num_target)
        positions, offset = cache.positions(), cache.offset
        mask = np.array(cache.make_mask(num_source + num_target, return_array=True))
        implied = cache.make_mask(num_source + num_target)
        cache.update_and_fetch(*[mx.zeros((1, 1, num_source + num_target, 1))] * 2)
        assert offset == positions[0]
        assert (implied is None) == mask.all()
        seen = [frozenset(cache.ranks[line].tolist()) for line in mask]
        assert [Seen(*pair) for pair in zip(positions, seen, strict=True)] == expected


@given(STEPS, LAYOUTS, st.booleans())
def test_replay_follows_the_rule(steps: Sequence[Step], layout: Layout, is_split: bool) -> None:
    """All source, then all target with what each token saw, in one pass or two: what the tokens had when they were fed
    one step after the other. In a contiguous layout, what they have once all source is read.
    """
    told = Told(layout)
    for step in steps:
        told.feed(step)
    if isinstance(layout, ContiguousLayout):
        told.feed((0, len(target := told.target), len(target)))
    slots, pool = Slots(LENGTH, layout), pool_of(1)
    allocation = pool.allocate((0, 0), slots)
    cuts = [0, len(told.target) // 2, len(told.target)] if is_split else [0, len(told.target)]
    found: list[Seen] = []
    for i, (start, stop) in enumerate(pairwise(cuts)):
        source = () if i else (5,) * len(told.source)
        if not source and start == stop:
            continue
        seen = tuple(told.visible_source[start:stop])
        row = Row((0, 0), source, (6,) * (stop - start), start, 0, SampleSpec(), visible_source=seen)
        batch = make_batch([(pool, [BatchRow(allocation, row)])])
        found += told_by(batch, 0, 0, slots, len(source) + stop - start)
    assert found == [*told.source, *told.target]


@given(STEPS, st.sampled_from([0, 7]))
def test_training_and_the_masked_pass_follow_the_rule(steps: Sequence[Step], position_offset: int) -> None:
    """A pair that is read and written as the steps say is trained on with the mask and the positions of serving."""
    told = Told(GroupLayout(position_offset))
    for step in [(1, 1, 0), *steps]:  # a pair has some of both
        told.feed(step)
    expected = [*told.source, *told.target]
    ranks = np.array([*range(len(told.source)), *(-1 - j for j in range(len(told.target)))])
    # With wait-1, target word n sees `bounds[n + 1]`: a word for each token.
    pair = pairs.Pair(
        source=np.full(len(told.source), 5, np.int32),
        bounds=np.array([0, *told.visible_source, len(told.source)], np.int32),
        target=np.full(len(told.target) + 1, 6, np.int32),
        predicts=np.arange(len(told.target), dtype=np.int32),
        num_given=0,
    )
    batch = pairs.make_batch([pair], 1, position_offset, multiple=8)
    num_tokens = len(expected)
    positions: list[int] = np.array(batch.positions)[0, :num_tokens].tolist()
    trained = np.array(batch_mask(batch))[0, 0, :num_tokens, :num_tokens]
    masked = np.array(streaming_mask(len(told.source), told.visible_source))
    for mask in (trained, masked):
        seen = [frozenset(ranks[line].tolist()) for line in mask]
        assert [Seen(*each) for each in zip(positions, seen, strict=True)] == expected


def test_a_contiguous_target_stands_right_behind_its_source() -> None:
    """Positions go on from the source that is read with the first target token; later source does not move them, but
    a target that is fed anew stands behind that, too.
    """
    state, layout = CacheState(), ContiguousLayout()
    positions = []
    for num_source, num_target in [(3, 0), (2, 1), (0, 2), (1, 1)]:
        state, metadata = state.extend(layout, num_source, num_target)
        positions.append(metadata.positions)
    assert positions == [[0, 1, 2], [3, 4, 5], [6, 7], [5, 8]]
    state, metadata = CacheState(num_source=6, target_position=5).extend(layout, 0, 2)
    assert metadata.positions == [6, 7]
    assert metadata.visible_source == [6, 6]


def test_a_free_slot_is_seen_by_nobody() -> None:
    """Whatever a query may see."""
    assert not attention_mask([FREE], [FREE], [FREE]).any()


@given(st.lists(st.integers(1, 3), max_size=4), st.lists(st.integers(1, 3), max_size=4), st.integers(0, 5), st.data())
def test_the_documents_mask_is_the_same(
    source: list[int], target: list[int], num_padding: int, data: st.DataObject
) -> None:
    """Given by words, with padding that nobody sees and that sees itself."""
    seen = [data.draw(st.integers(0, sum(source))) for _ in target]
    used = sum(source) + sum(target)
    mask = np.array(create_streaming_attention_mask(used + num_padding, source, target, seen))
    per_token = [number for number, length in zip(seen, target, strict=True) for _ in range(length)]
    assert np.array_equal(mask[:used, :used], np.array(streaming_mask(sum(source), per_token)))
    assert np.array_equal(mask[used:], np.eye(used + num_padding, dtype=bool)[used:])
    assert not mask[:used, used:].any()

"""Rows of several pairs compute what each pair does alone, and an epoch is the same pairs as ever."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.training.pairs import pair_of, tiny
from tests.worker.training.test_objective import PAIRS, WAITS
from worker.training.arrangement import LengthBuckets
from worker.training.errors import DataError
from worker.training.objective import Objective, batch_mask
from worker.training.pack import packed
from worker.training.packing import RowPacker
from worker.training.pairs import MemoryCorpus, Pair, make_batch

OFFSET = 9


def corpus_of(pairs: list[Pair], weight: float = 1.0) -> MemoryCorpus:
    """These pairs, all with that weight."""
    corpus = MemoryCorpus()
    for pair in pairs:
        corpus.add(pair, weight)
    return corpus


def units() -> Any:
    """Words of one to three tokens."""
    return st.lists(st.lists(st.integers(8, 40), min_size=1, max_size=3), min_size=1, max_size=6)


@given(st.lists(st.tuples(units(), units()), min_size=1, max_size=8), st.sampled_from(WAITS), st.data())
def test_a_row_holds_its_pairs_as_each_would_be_alone(rows: list[Any], wait_k: int | None, data: Any) -> None:
    """Tokens, positions, labels and visibility are those of a batch of the pair alone; pairs do not see each other."""
    pairs = [pair_of(source, target) for source, target in rows]
    corpus = packed(corpus_of(pairs))
    packer = RowPacker(corpus, 512, OFFSET)
    order = data.draw(st.permutations(range(len(pairs))))
    seed = data.draw(st.none() | st.integers(0, 9))
    batch = packer.batch(np.array(order, np.int32), wait_k, seed)
    mask = np.array(batch_mask(batch))[:, 0]
    assert batch.num_tokens == sum(pair.num_tokens for pair in pairs)
    labels = iter(zip(batch.queries.tolist(), batch.labels.tolist(), batch.weights.tolist(), strict=True))
    start = 0
    for index in order:
        alone = LengthBuckets(corpus, 512, OFFSET).batch(np.array([index], np.int32), wait_k, seed)
        length = pairs[index].num_tokens
        stop = start + length
        assert batch.tokens[0, start:stop].tolist() == alone.tokens[0, :length].tolist()
        assert batch.positions[0, start:stop].tolist() == alone.positions[0, :length].tolist()
        assert np.array_equal(mask[0, start:stop, start:stop], np.array(batch_mask(alone))[0, 0, :length, :length])
        assert not mask[0, start:stop, :start].any()
        assert not mask[0, start:stop, stop:].any()
        for query, label, weight in zip(
            alone.queries.tolist(), alone.labels.tolist(), alone.weights.tolist(), strict=True
        ):
            assert weight == 0 or next(labels) == (start + query, label, weight)
        start = stop
    assert batch.num_labels == batch.weights.sum()


@pytest.mark.parametrize("wait_k", WAITS)
def test_the_loss_is_the_sum_of_those_of_the_pairs(wait_k: int | None) -> None:
    """In several rows, too, the last of which are empty."""
    model = tiny()
    packer = RowPacker(packed(corpus_of(PAIRS)), 2048, model.position_offset)
    assert packer.num_rows == 4
    objective = Objective(model)
    found = objective.loss_sum(packer.batch(np.arange(len(PAIRS), dtype=np.int32), wait_k)).item()
    expected = objective.loss_sum(make_batch(PAIRS, wait_k, model.position_offset)).item()
    assert found == pytest.approx(expected, rel=1e-4)


@given(st.integers(1, 200), st.sampled_from([0.5, 1.0, 2.5]), st.integers(0, 9))
def test_an_epoch_has_every_pair_by_its_weight(count: int, weight: float, epoch: int) -> None:
    """Each comes floor(w) times or once more, in an order of the epoch's own; all batches are of one shape."""
    pairs = [pair_of([[8]] * (1 + n % 30), [[9]] * (1 + n % 20)) for n in range(count)]
    corpus = packed(corpus_of(pairs, weight))
    packer = RowPacker(corpus, 1024, OFFSET)
    batches = packer.epoch(3, epoch)
    counts = np.bincount(np.concatenate(batches), minlength=count)
    assert set(counts) <= {int(weight), int(np.ceil(weight))}
    assert packer.num_left_out == 0
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in packer.epoch(3, epoch)]
    assert {packer.batch(batch, 2).tokens.shape for batch in batches if len(batch)} <= {(2, 512)}


def test_pairs_longer_than_a_row_are_left_out_and_counted() -> None:
    """The others come as ever."""
    pairs = [pair_of([[8]] * 20, [[9]] * 20), pair_of([[8]] * 400, [[9]] * 300)]
    packer = RowPacker(packed(corpus_of(pairs)), 1024, OFFSET)
    assert packer.num_left_out == 1
    assert [batch.tolist() for batch in packer.epoch(0, 0)] == [[0]]


def test_no_pair_that_fits() -> None:
    """The message tells the limit, and what has none."""
    with pytest.raises(DataError, match="all 1 pairs are longer than a row of 512 tokens"):
        RowPacker(packed(corpus_of([pair_of([[8]] * 400, [[9]] * 300)])), 1024, OFFSET)

"""The objective equals what serving computes, step by step."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from protocol import Session, WaitK
from tests.worker.training.pairs import EOS, EvenStarts, Words, pair_of, texts, tiny
from worker.core import segment as segments
from worker.core.rows import Tokens
from worker.core.settling import update
from worker.engine.model import Model
from worker.engine.visibility import CacheState, GroupLayout, streaming_mask
from worker.training.mlx_backend import number
from worker.training.objective import Objective, batch_mask
from worker.training.pairs import Pair, begins_word, make_batch, visible_source

WAITS = [1, 2, 3, None]
SOURCES: list[Words] = [[[8], [10, 9], [12], [14, 15, 11]], [[20, 21], [8]], [[16]]]
TARGETS: list[Words] = [[[8, 9], [12], [22, 11, 13]], [[10], [8], [14, 9], [16], [20, 21]], [[18]]]
PAIRS = [pair_of(source, target) for source, target in zip(SOURCES, TARGETS, strict=True)]


def largest(array: mx.array) -> float:
    """The largest absolute value."""
    return number(mx.abs(array).max())


def streamed(model: Model, pair: Pair, wait_k: int | None, guesses: dict[int, mx.array] | None = None) -> mx.array:
    """Logits (len(target) - 1, V) by reads and writes through dual caches, the last token fed again after a read.

    `guesses` gets those of the tokens that are fed again, by their place, before the read.
    """
    cache = model.make_cache()
    rows: list[mx.array] = []
    guesses = {} if guesses is None else guesses
    read = 0
    for i, need in enumerate(visible_source(pair, wait_k).tolist()):
        if need > read:
            if i:  # as serving does: the boundary token is guessed, the source read, and the token fed again
                guesses[i] = model(mx.array([[int(pair.target[i])]]), cache=cache, is_reading=False)[0, -1]
                for layer in cache:
                    layer.trim_target(1)
            model(mx.array(pair.source[None, read:need]), cache=cache, is_reading=True)
            read = need
        rows.append(model(mx.array([[int(pair.target[i])]]), cache=cache, is_reading=False)[0, -1])
    return mx.stack(rows)


def served_seen(source: Words, target: Words, wait_k: int) -> list[int]:
    """Source tokens that had been read when each target token was fed for good, by the core's own machine."""
    vocabulary = EvenStarts()
    segment = segments.begin(0, (0, 0), Session(policy=WaitK(k=wait_k)), vocabulary)
    for word in source:
        segment = segments.append(segment, "x", tuple(word), 0)
    segment = segments.end(segment, 0)
    gold = [4, *(token for word in target for token in word), EOS]
    seen = [0] * (len(gold) - 1)
    while not segment.is_finished:
        row = segments.row(segment, 500)
        if row is None:
            raise AssertionError("the machine stands still")
        end = row.target_start + len(row.target)
        if segment.decode.hold == 0:  # at its first asking: the end is asked for again until the source has ended
            for i in range(row.target_start, end):
                seen[i] = segment.kv.num_source + len(row.source)
        first = end - row.num_drafts
        segment, _ = update(segment, row, Tokens(tuple(gold[first : end + 1])), vocabulary)
    return seen


@settings(deadline=None, max_examples=60)
@given(texts(), texts(), st.integers(1, 7))
def test_queries_see_what_serving_lets_them_see(source: Words, target: Words, wait_k: int) -> None:
    """The source behind each query is what the core had read when it fed that token for the last time."""
    assert visible_source(pair_of(source, target), wait_k).tolist() == served_seen(source, target, wait_k)


@given(texts(), texts())
def test_a_full_sentence_is_the_limit_of_wait_k(source: Words, target: Words) -> None:
    """Without a k, everything is read first, as with a k beyond all words."""
    pair = pair_of(source, target)
    assert visible_source(pair, None).tolist() == visible_source(pair, 100).tolist()


@pytest.mark.parametrize("wait_k", WAITS)
@pytest.mark.parametrize("position_offset", [0, 40])
def test_one_pass_gives_the_streamed_logits(wait_k: int | None, position_offset: int) -> None:
    """A padded batch of unequal pairs gives, for every prediction, the logits of reads and writes one by one."""
    model = tiny(position_offset)
    batch = make_batch(PAIRS, wait_k, position_offset, multiple=16)
    one_pass = Objective(model).logits(batch)[: batch.num_labels]
    step_by_step = mx.concatenate([streamed(model, pair, wait_k) for pair in PAIRS])
    assert largest(one_pass - step_by_step) < 1e-4


@pytest.mark.parametrize(("pair", "wait_k"), [(PAIRS[0], 1), (PAIRS[0], 2), (PAIRS[0], 3), (PAIRS[1], 1)])
def test_an_early_query_is_the_guess_of_serving(pair: Pair, wait_k: int) -> None:
    """A query that is early has the logits by which serving tells, before the next read, whether the word is over."""
    model, guesses = tiny(), dict[int, mx.array]()
    streamed(model, pair, wait_k, guesses)
    assert guesses
    for place, guess in guesses.items():
        early = np.arange(len(pair.predicts)) == place
        assert begins_word(pair.predicts)[place]
        batch = make_batch([pair], wait_k, 0, early=[early])
        assert largest(Objective(model).logits(batch)[place] - guess) < 1e-4
        assert batch.weights[place] == 2
        assert batch.num_labels == len(pair.predicts) + begins_word(pair.predicts).sum()


@pytest.mark.parametrize("wait_k", WAITS)
@pytest.mark.parametrize("position_offset", [0, 40])
def test_loss_and_gradients_are_those_of_streaming(wait_k: int | None, position_offset: int) -> None:
    """Loss and every gradient equal those of the computation through dual caches, token by token."""
    model = tiny(position_offset)

    def by_streaming() -> mx.array:
        first, second = (_cross_entropy(streamed(model, pair, wait_k), pair) for pair in PAIRS[:2])
        return first + second

    batch = make_batch(PAIRS[:2], wait_k, position_offset, multiple=8)
    loss, gradients = Objective(model).loss_and_gradients(batch, 0.1)
    expected_loss, expected = nn.value_and_grad(model.inner, by_streaming)()
    assert largest(loss - expected_loss) < 1e-4
    _assert_same(gradients, expected)


def _cross_entropy(logits: mx.array, pair: Pair) -> mx.array:
    labels = mx.array(pair.target[1:])
    loss: mx.array = nn.losses.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")
    return loss


def _assert_same(gradients: Any, expected: Any) -> None:
    ours, theirs = dict(tree_flatten(gradients)), dict(tree_flatten(expected))
    assert ours.keys() == theirs.keys()
    assert max(largest(ours[name] - theirs[name]) for name in ours) < 1e-4
    assert all(largest(array) > 0 for array in ours.values())


def test_a_prompt_of_several_tokens_is_fed_but_not_learned() -> None:
    """Target prompt tokens see what word 0 sees; the first label is the first token of word 0."""
    pair = pair_of([[8], [10]], [[12], [14]], answer=(4, 6, 7))
    batch = make_batch([pair], 1, 0)
    assert visible_source(pair, 1).tolist() == [3, 3, 3, 4, 5]
    assert batch.labels.tolist() == [12, 14, EOS]
    logits = Objective(model := tiny()).logits(batch)
    assert largest(logits - streamed(model, pair, 1)[2:]) < 1e-4


@pytest.mark.parametrize("wait_k", WAITS)
def test_padding_is_seen_by_none_but_itself(wait_k: int | None) -> None:
    """Row by row mask and positions are those of one streamed pass; padding behind it is seen by padding alone."""
    batch = make_batch(PAIRS, wait_k, 7, multiple=16)
    for mask, positions, pair in zip(np.array(batch_mask(batch))[:, 0], batch.positions, PAIRS, strict=True):
        used = pair.num_tokens
        assert mask.shape == (batch.tokens.shape[1],) * 2
        expected = streaming_mask(len(pair.source), visible_source(pair, wait_k).tolist())
        assert np.array_equal(mask[:used, :used], np.array(expected))
        assert not mask[:used, used:].any()
        assert mask.diagonal()[used:].all()  # so that no softmax is over nothing
        _, metadata = CacheState().extend(GroupLayout(7), len(pair.source), used - len(pair.source))
        assert positions[:used].tolist() == metadata.positions


def test_padding_weighs_nothing() -> None:
    """The loss of a batch is the sum over its pairs alone, whatever the padding."""
    objective = Objective(tiny())
    alone = sum(number(objective.loss_sum(make_batch([pair], 2, 0), 0.1)) for pair in PAIRS)
    assert number(objective.loss_sum(make_batch(PAIRS, 2, 0, multiple=32), 0.1)) == pytest.approx(alone, rel=1e-5)


def test_smoothing_moves_towards_the_uniform_loss() -> None:
    """Smoothing by e is (1 - e) times the plain loss plus e times the mean over the whole vocabulary."""
    model = tiny()
    batch = make_batch(PAIRS, 1, 0)
    logits = Objective(model).logits(batch)
    logs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    plain, uniform = number(Objective(model).loss_sum(batch)), number(-logs.mean(axis=-1).sum())
    smoothed = number(Objective(model).loss_sum(batch, 0.2))
    assert smoothed == pytest.approx(0.8 * plain + 0.2 * uniform, rel=1e-5)


def test_an_empty_batch_is_refused() -> None:
    """There is nothing to compute."""
    with pytest.raises(ValueError, match="at least one pair"):
        make_batch([], 1, 0)

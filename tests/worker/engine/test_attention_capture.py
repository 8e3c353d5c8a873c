"""Which source token a drawn token attends to most: as plain attention has it, in any company, compiled or not."""

import random
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.models.base import scaled_dot_product_attention as plain
from msgspec.structs import replace
from numpy.typing import NDArray

from tests.worker.engine.test_batching import TICKS, Alone, Anything, lent_runner, rows_of
from tests.worker.engine.tiny import build
from worker.core.rows import Failed, Lane, Row, SampleSpec, Tokens
from worker.engine.adapters import attention, kernels
from worker.engine.errors import UnsupportedModel
from worker.engine.head_attention import head_attention
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner

Floats = NDArray[np.float64]


class Attending(Alone):
    """Each lane with a dual cache of its own, whose attention is watched from outside."""

    def __init__(self, model: StreamingModel) -> None:
        super().__init__(model)
        self.calls: list[tuple[Any, Any, Any, Any, float]] = []

    def watched(self, queries: Any, keys: Any, values: Any, cache: Any, *, mask: Any, scale: float) -> Any:
        """Attends as ever."""
        self.calls.append((queries, keys, cache, mask, scale))
        return plain(queries, keys, values, cache, mask=mask, scale=scale)

    def weights(self, row: Row) -> Floats:
        """What the row's drawn tokens attend to of each source token, (drafts + 1, S), the layers' sum."""
        self.calls.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attention, "plain", self.watched)
            self.logits(row)
        total: Any = 0.0
        for queries, keys, cache, mask, scale in self.calls:
            per_head = np.repeat(np.array(keys[0], np.float64), queries.shape[1] // keys.shape[1], axis=0)
            scores = np.array(queries[0], np.float64) @ per_head.swapaxes(-1, -2) * scale
            scores = scores if mask is None else np.where(np.array(mask), scores, -np.inf)
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            shares /= shares.sum(axis=-1, keepdims=True)
            total = total + shares.mean(axis=0)[:, cache.ranks >= 0]
        found: Floats = total[-(row.num_drafts + 1) :]
        return found


def asking(ticks: list[tuple[list[Row], list[Lane]]], since: int) -> list[tuple[list[Row], list[Lane]]]:
    """Rows of even lanes ask what comes from the source tokens from `since` on, as soon as there are some."""
    read: dict[Lane, int] = {}
    out = []
    for rows, dropped in ticks:
        read = {lane: num for lane, num in read.items() if lane not in dropped}
        asked = []
        for row in rows:
            read[row.lane] = read.get(row.lane, 0) + len(row.source)
            is_asked = row.lane[0] % 2 == 0 and read[row.lane] > since
            asked.append(replace(row, sampling=SampleSpec(aligned_from=since if is_asked else None)))
        out.append((asked, dropped))
    return out


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("num_lanes", [1, 5])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(ticks=TICKS, since=st.integers(0, 3))
def test_it_is_what_plain_attention_has(
    family: str, num_lanes: int, ticks: list[list[tuple[int, list[int], list[int], int, int, int]]], since: int
) -> None:
    """One lane, in compiled passes where there are some, or several that join, roll back and leave: the token named is
    that of the most weight, and no row is told of what it did not ask.
    """
    few = [[step for step in tick if step[0] < num_lanes] for tick in ticks]
    with lent_runner(family) as runner:
        alone = Attending(runner.model)
        for rows, dropped in asking(rows_of(few), since):
            for lane in dropped:
                alone.caches.pop(lane, None)
            for row, sampled in zip(rows, runner.run(rows, dropped), strict=True):
                weights = alone.weights(row)
                assert isinstance(sampled, Tokens)
                if row.sampling.aligned_from is None or not row.target:
                    assert sampled.aligned == ()
                    continue
                assert len(sampled.aligned) == len(sampled.tokens)
                for each, index in zip(weights[:, since:], sampled.aligned, strict=True):
                    assert each[index - since] > each.max() - 1e-4


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
def test_weights_are_those_of_attention(heads: tuple[int, int]) -> None:
    """With one value a key, what is read is the weights: those of each head add up to one."""
    q, k = (mx.random.normal((3, n, 4, 8), key=mx.random.key(n + i)) for i, n in enumerate(heads))
    k = mx.concatenate([k, k[:, :, :1] + 1], axis=2)
    values = mx.broadcast_to(mx.eye(5), (3, heads[1], 5, 5))
    mask = mx.random.uniform(shape=(3, 1, 4, 5), key=mx.random.key(7)) > 0.5
    mask[..., 0] = True
    found = kernels.weights(q, k, mask=mask, scale=0.4)
    read = mx.fast.scaled_dot_product_attention(q, k, values, mask=mask, scale=0.4)
    np.testing.assert_allclose(np.array(found), np.array(read), atol=1e-6)
    np.testing.assert_allclose(np.array(found.sum(axis=-1)), 1, atol=1e-6)


def test_products_that_half_precision_cannot_hold() -> None:
    """Scores beyond 65,504 before they are scaled are numbers all the same."""
    large = mx.full((1, 1, 1, 64), 100.0, mx.float16)
    keys = mx.concatenate([large, large * 0.5], axis=2)
    found = kernels.weights(large, keys, mask=mx.ones((1, 1, 1, 2), mx.bool_), scale=1 / 8)
    np.testing.assert_array_equal(np.array(found), [[[[1.0, 0.0]]]])


def test_an_attention_of_its_own_shows_nothing() -> None:
    """The row that asks fails, with the reason; others are served, and keep what they hold."""
    runner = Runner(StreamingModel(build("gemma2")), Anything())
    row = Row((1, 0), (1, 2, 3), (4,), 0, 0, SampleSpec())
    runner.run([row])
    more = replace(row, source=(5,), source_start=3, target=(6,), target_start=1)
    asked, plain = runner.run([replace(row, lane=(0, 0), sampling=SampleSpec(aligned_from=1)), more])
    assert asked == Failed(
        "UnsupportedModel: its layers have an attention of their own, which does not show what they attend to; "
        "align-att needs that: ask for another policy"
    )
    assert isinstance(plain, Tokens)


HEADS = [(layer, head) for layer in range(2) for head in range(4)]


@pytest.mark.parametrize("is_contiguous", [False, True], ids=["group", "contiguous"])
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    heads=st.sets(st.sampled_from(HEADS)), source=st.lists(st.integers(0, 63), min_size=3, max_size=9),
    target=st.lists(st.integers(0, 63), min_size=2, max_size=6), seed=st.integers(0, 9),
)  # fmt: skip
def test_what_is_read_is_what_is_calibrated(
    is_contiguous: bool, heads: set[tuple[int, int]], source: list[int], target: list[int], seed: int
) -> None:
    """Law: in both layouts, alone or in a batch, AlignAtt reads the sum of the chosen heads' weights as calibration
    measures them; of all heads, where none is chosen.
    """
    model = StreamingModel(build("qwen2"), position_offset=3)
    model.alignment_heads = tuple(sorted(heads))
    known, weights = head_attention(
        model, source, target, num_queries=len(target), words=slice(1, len(source)), is_contiguous=is_contiguous
    )
    assert list(known) == HEADS
    chosen = [HEADS.index(head) for head in sorted(heads or HEADS)]
    total = weights[chosen].sum(axis=0, dtype=np.float32)
    spec, dice = SampleSpec(aligned_from=1), random.Random(seed)
    rows = [Row((0, 0), tuple(source), tuple(target), 0, len(target) - 1, spec, is_contiguous=is_contiguous)]
    for lane in range(1, dice.randrange(1, 4)):
        length = dice.randrange(2, 12)
        rows.append(Row((lane, 0), tuple(range(length)), (5,), 0, 0, spec if dice.random() < 0.5 else SampleSpec()))
    (found, *_) = Runner(model, Anything()).run(rows)
    assert isinstance(found, Tokens)
    for each, index in zip(total, found.aligned, strict=True):
        assert each[index - 1] > each.max() - 2e-3 * len(chosen)


def test_an_attention_of_its_own_cannot_be_calibrated() -> None:
    """Refused by name."""
    model = StreamingModel(build("gemma2"), name="some/gemma")
    with pytest.raises(UnsupportedModel, match="some/gemma has an attention of its own"):
        head_attention(model, (1, 2), (3,), num_queries=1, words=slice(0, 2), is_contiguous=True)

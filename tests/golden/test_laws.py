"""The laws of the dual cache, on models of two architectures."""

from collections.abc import Sequence
from itertools import pairwise

import mlx.core as mx
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.models.cache import make_prompt_cache

from worker import DualStreamingCache, StreamingModel
from worker.engine.visibility import ContiguousLayout, GroupLayout, streaming_mask

TOLERANCE = 2e-4
TOKENS = st.lists(st.integers(3, 559), min_size=1, max_size=12)
# The model is only read.
LAW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def chunks(tokens: list[int], cuts: Sequence[int]) -> list[list[int]]:
    """The tokens cut at some of their places."""
    places = sorted({0, len(tokens), *(cut % len(tokens) for cut in cuts)})
    return [tokens[start:stop] for start, stop in pairwise(places)]


def feed(
    model: StreamingModel,
    cache: list[DualStreamingCache],
    tokens: list[int],
    *,
    is_reading: bool,
    cuts: Sequence[int] = (),
) -> mx.array:
    """The logits (T, V) of tokens that are read or written in the chunks between `cuts`."""
    parts = [model(mx.array([part]), cache=cache, is_reading=is_reading) for part in chunks(tokens, cuts)]
    return mx.concatenate(parts, axis=1)[0]


def assert_close(left: mx.array, right: mx.array) -> None:
    """The same logits, up to rounding."""
    np.testing.assert_allclose(np.array(left), np.array(right), atol=TOLERANCE, rtol=0)


@LAW
@given(source=TOKENS, target=TOKENS, cuts=st.lists(st.integers(0, 11)), more_cuts=st.lists(st.integers(0, 11)))
def test_chunks_make_no_difference(
    golden_model: StreamingModel, source: list[int], target: list[int], cuts: list[int], more_cuts: list[int]
) -> None:
    """Source read, and target written, in any chunks gives the logits of one pass each."""
    whole, parts = golden_model.make_cache(), golden_model.make_cache()
    assert_close(
        feed(golden_model, parts, source, is_reading=True, cuts=cuts),
        feed(golden_model, whole, source, is_reading=True),
    )
    assert_close(
        feed(golden_model, parts, target, is_reading=False, cuts=more_cuts),
        feed(golden_model, whole, target, is_reading=False),
    )


@LAW
@given(source=TOKENS, target=TOKENS, seen=st.lists(st.integers(0, 12), min_size=12, max_size=12))
def test_one_masked_pass_equals_streaming(
    golden_model: StreamingModel, source: list[int], target: list[int], seen: list[int]
) -> None:
    """All source and all target in one pass, masked by what each target token saw, gives the streamed logits."""
    visible_source = sorted(min(n, len(source)) for n in seen[: len(target)])
    cache = golden_model.make_cache()
    read = 0
    streamed = []
    for token, stop in zip(target, visible_source, strict=True):
        if stop > read:
            golden_model(mx.array([source[read:stop]]), cache=cache)
            read = stop
        streamed.append(golden_model(mx.array([[token]]), cache=cache, is_reading=False)[0])
    once = golden_model.forward(
        source, target, golden_model.make_cache(), mask=streaming_mask(len(source), visible_source)
    )
    assert_close(once[0, len(source) :], mx.concatenate(streamed))


@LAW
@given(source=TOKENS, target=TOKENS)
def test_a_target_right_behind_its_source_is_a_plain_sequence(
    golden_model: StreamingModel, source: list[int], target: list[int]
) -> None:
    """With φ = len(source), or contiguous, the dual cache gives what mlx-lm's own cache gives; so does no cache."""
    plain = make_prompt_cache(golden_model.inner)
    golden_model(mx.array([source]), cache=plain)
    expected = golden_model(mx.array([target]), cache=plain)[0]
    assert plain[0].offset == len(source) + len(target)
    for layout in (GroupLayout(len(source)), ContiguousLayout()):
        cache = golden_model.make_cache(layout)
        feed(golden_model, cache, source, is_reading=True)
        assert_close(feed(golden_model, cache, target, is_reading=False), expected)
    assert_close(golden_model(mx.array([source + target]))[0, len(source) :], expected)


@LAW
@given(source=TOKENS, target=TOKENS)
def test_positions_given_are_the_positions_implied(
    golden_model: StreamingModel, source: list[int], target: list[int]
) -> None:
    """`position_ids` that say what the cache would say change nothing; the rotary modules take them one by one."""
    implied, given_ids = golden_model.make_cache(), golden_model.make_cache()
    for tokens, is_reading in ((source, True), (target, False)):
        ids = mx.arange(len(tokens))[None]
        left = golden_model(mx.array([tokens]), cache=given_ids, is_reading=is_reading, position_ids=ids)
        assert_close(left[0], feed(golden_model, implied, tokens, is_reading=is_reading))


def test_other_positions_give_other_logits(golden_model: StreamingModel) -> None:
    """`position_ids` reach the rotary modules: spread positions are not consecutive ones."""
    tokens = mx.array([[5, 6, 7, 8]])
    spread = golden_model(tokens, cache=golden_model.make_cache(), position_ids=mx.array([0, 9, 40, 90]))
    usual = golden_model(tokens, cache=golden_model.make_cache())
    assert float(mx.abs(spread - usual).max()) > 0.01


@LAW
@given(source=TOKENS, more=TOKENS, kept=TOKENS, dropped=TOKENS, after=TOKENS)
def test_trimmed_is_never_written(
    golden_model: StreamingModel,
    source: list[int],
    more: list[int],
    kept: list[int],
    dropped: list[int],
    after: list[int],
) -> None:
    """n tokens written and n trimmed leave no trace, also where source was read in between."""
    trimmed, clean = golden_model.make_cache(), golden_model.make_cache()
    for cache in (trimmed, clean):
        feed(golden_model, cache, source, is_reading=True)
        feed(golden_model, cache, kept, is_reading=False)
    feed(golden_model, trimmed, dropped, is_reading=False)
    for cache in (trimmed, clean):
        feed(golden_model, cache, more, is_reading=True)
    assert {layer.trim_target(len(dropped)) for layer in trimmed} == {len(dropped)}
    assert_close(
        feed(golden_model, trimmed, after, is_reading=False), feed(golden_model, clean, after, is_reading=False)
    )
    assert trimmed[0].target_offset == clean[0].target_offset
    assert trimmed[0].source_offset == clean[0].source_offset


@LAW
@given(source=TOKENS, first=TOKENS, second=TOKENS)
def test_a_reset_target_starts_anew(
    golden_model: StreamingModel, source: list[int], first: list[int], second: list[int]
) -> None:
    """After `reset_target` another translation of the same source gives what it gives on a fresh cache."""
    used, fresh = golden_model.make_cache(), golden_model.make_cache()
    feed(golden_model, used, source, is_reading=True)
    feed(golden_model, used, first, is_reading=False)
    for layer in used:
        layer.reset_target()
    assert (used[0].source_offset, used[0].target_offset) == (len(source), 0)
    feed(golden_model, fresh, source, is_reading=True)
    assert_close(
        feed(golden_model, used, second, is_reading=False), feed(golden_model, fresh, second, is_reading=False)
    )


@LAW
@given(source=TOKENS, target=TOKENS, more=TOKENS)
def test_the_source_never_sees_the_target(
    golden_model: StreamingModel, source: list[int], target: list[int], more: list[int]
) -> None:
    """Source read after a target was written gives what it gives with no target at all."""
    cache = golden_model.make_cache()
    feed(golden_model, cache, source, is_reading=True)
    feed(golden_model, cache, target, is_reading=False)
    later = feed(golden_model, cache, more, is_reading=True)
    whole = feed(golden_model, golden_model.make_cache(), source + more, is_reading=True)
    assert_close(later, whole[len(source) :])

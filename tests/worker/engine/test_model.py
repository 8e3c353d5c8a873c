"""Unmodified mlx-lm models of several families are driven through dual caches; what cannot be driven says why."""

import mlx.core as mx
import pytest

from tests.worker.engine.tiny import OTHERS, ROTARY, build
from worker.engine.adapters.compatibility import check_surface
from worker.engine.errors import UnsupportedModel
from worker.engine.model import StreamingModel
from worker.engine.visibility import ContiguousLayout, GroupLayout

SOURCE, TARGET = mx.array([[3, 5, 7, 11]]), mx.array([[17, 19]])


@pytest.mark.parametrize("family", ROTARY)
def test_rotary_families_are_driven(family: str) -> None:
    """Dual and plain cache agree at φ = len(source); another φ gives other logits, so positions are really taken."""
    model = StreamingModel(build(family), position_offset=0, name=family)
    assert check_surface(model) < 1e-4
    outcomes = []
    for offset in (4, 60):
        cache = model.make_cache(GroupLayout(offset))
        model(SOURCE, cache=cache)
        outcomes.append(model(TARGET, cache=cache, is_reading=False))
    assert float(mx.abs(outcomes[0] - outcomes[1]).max()) > 1e-3


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("gpt2", "no rotary position embedding"),
        ("mamba", "recurrent states"),
        ("mamba2", "recurrent states"),
        ("falcon_h1", "several caches a layer"),
        ("jamba", "recurrent states"),
        ("lfm2", "recurrent states"),
        ("qwen3_next", "recurrent states"),
        ("granitemoehybrid", "recurrent states"),
        ("recurrent_gemma", "recurrent states"),
    ],
)
def test_others_say_why_not(family: str, reason: str) -> None:
    """No rotary positions, a recurrent state: the message names what it is, and what to use."""
    assert family in OTHERS
    with pytest.raises(UnsupportedModel, match=rf"{family}.*{reason}.*Use a"):
        StreamingModel(build(family), name=family)


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe_lite"])
def test_latent_attention_says_why_not(family: str) -> None:
    """Its layers store compressed keys and values, and attend to what they make of them. Those of DeepSeek 2, MiniCPM3
    and Youtu-LLM store whole ones, and are driven.
    """
    assert family in OTHERS
    with pytest.raises(UnsupportedModel, match=rf"{family}.*\(multi-head latent attention, MLA\)\. Use a"):
        check_surface(StreamingModel(build(family), name=family))


def test_a_target_behind_its_source_may_begin_in_the_pass_that_reads_it() -> None:
    """Contiguous: read and written in one pass is read, then written; later source does not move it."""
    model = StreamingModel(build("qwen2"))
    once, apart, fixed = (
        model.make_cache(ContiguousLayout()),
        model.make_cache(ContiguousLayout()),
        model.make_cache(GroupLayout(4)),
    )
    model.forward([3, 5, 7, 11], [17], once)
    for cache in (apart, fixed):
        model(SOURCE, cache=cache)
        model(TARGET[:, :1], cache=cache, is_reading=False)
    outcomes = []
    for cache in (once, apart, fixed):
        model(mx.array([[13]]), cache=cache)
        outcomes.append(model(TARGET[:, 1:], cache=cache, is_reading=False))
        assert {layer.target_position for layer in cache} == {4}
    assert float(mx.abs(outcomes[0] - outcomes[1]).max()) < 1e-4
    assert float(mx.abs(outcomes[0] - outcomes[2]).max()) < 1e-4


def test_one_model_can_be_wrapped_twice() -> None:
    """Two StreamingModels over the same weights, with another φ each: both keep taking positions."""
    inner = build("qwen2")
    first, second = StreamingModel(inner, position_offset=4), StreamingModel(inner, position_offset=9)
    for model in (first, second, first):
        assert check_surface(model) < 1e-4
    assert [model.make_cache()[0].layout for model in (first, second)] == [GroupLayout(4), GroupLayout(9)]


def test_positions_are_forgotten_after_a_fault() -> None:
    """A pass that fails leaves no positions behind for the next one."""
    model = StreamingModel(build("llama"))
    expected = model(SOURCE)
    with pytest.raises(ValueError, match="position_ids"):
        model(SOURCE, position_ids=mx.array([1, 2]))
    with pytest.raises(ValueError, match=r"\(B, T\)"):
        model(SOURCE[0])
    assert mx.array_equal(model(SOURCE), expected)

"""Sampling: a pure function of logits, seed and position."""

from collections import Counter

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.sample_utils import make_repetition_penalty
from msgspec.structs import replace

from worker.core.rows import SampleSpec
from worker.engine.sampling import Sampler

V = 12
FREE = Sampler(mx.ones(V, mx.bool_), mx.zeros(V, mx.bool_))
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=V, max_size=V)


def choose(logits: mx.array, sampling: SampleSpec, sampler: Sampler = FREE, drafts: tuple[int, ...] = ()) -> list[int]:
    tokens: list[int] = sampler.choose(logits, sampling, drafts).tolist()  # type: ignore[assignment]
    return tokens


@given(logits=LOGITS, temperature=st.sampled_from([0.0, 1e-9, 1e-300]))
def test_cold_is_argmax(logits: list[float], temperature: float) -> None:
    """Temperature 0, and what is 0 for all purposes, takes the most likely token."""
    assert choose(mx.array([logits]), SampleSpec(temperature=temperature)) == [
        int(np.argmax(np.array(logits, np.float32)))
    ]


def test_draws_follow_the_softmax() -> None:
    """Over many positions each token comes as often as its probability at that temperature."""
    logits = mx.array([1.0, 0.0, -1.0, 2.0] + [-30.0] * (V - 4))
    num, temperature = 3000, 0.7
    found = Counter(choose(mx.broadcast_to(logits, (num, V)), SampleSpec(temperature=temperature, seed=11)))
    expected = mx.softmax(logits / temperature).tolist()
    for token, probability in enumerate(expected):  # type: ignore[arg-type]
        assert found[token] / num == pytest.approx(probability, abs=4 * (0.25 / num) ** 0.5)


def test_seeds_and_positions_differ() -> None:
    """Another seed or another position is another sampling."""
    flat = mx.zeros((64, V))
    draws = [tuple(choose(flat, SampleSpec(temperature=1.0, seed=seed))) for seed in (0, 1, 2**63 - 1)]
    assert len(set(draws)) == 3
    assert len(set(draws[0])) == V


@given(rows=st.lists(LOGITS, min_size=2, max_size=5), seed=st.integers(0, 2**63 - 1), position=st.integers(0, 10**6))
def test_a_draw_depends_on_its_position_only(rows: list[list[float]], seed: int, position: int) -> None:
    """Token i of a row with drafts is the token that a row of its own at that position gives."""
    sampling = SampleSpec(
        temperature=0.9,
        top_p=0.8,
        repetition_penalty=1.3,
        context_tokens=3,
        history=(1, 2),
        seed=seed,
        position=position,
    )
    drafts = tuple(range(3, 3 + len(rows) - 1))
    together = choose(mx.array(rows), sampling, drafts=drafts)
    for i, logits in enumerate(rows):
        alone = replace(sampling, position=position + i, history=(1, 2, *drafts[:i]))
        assert choose(mx.array([logits]), alone) == together[i : i + 1]


@given(logits=LOGITS, top_p=st.floats(1e-9, 0.99), seed=st.integers(0, 1000))
def test_top_p_keeps_the_nucleus(logits: list[float], top_p: float, seed: int) -> None:
    """Only tokens whose likelier ones have less than top_p together are drawn; the likeliest always may be."""
    scores = np.array(logits, np.float32).astype(np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    drawn = set(choose(mx.array([logits] * 20), SampleSpec(temperature=1.0, top_p=top_p, seed=seed)))
    for token in drawn:
        assert probabilities[scores > scores[token]].sum() < top_p + 1e-5


@given(
    logits=LOGITS,
    history=st.lists(st.integers(0, V - 1), max_size=9).map(tuple),
    context=st.integers(1, 6),
    penalty=st.sampled_from([0.5, 1.0, 1.3, 4.0]),
)
def test_repetition_penalty_is_that_of_mlx_lm(
    logits: list[float], history: tuple[int, ...], context: int, penalty: float
) -> None:
    """The chosen token is the argmax behind mlx-lm's own processor with the same context size."""
    processor = make_repetition_penalty(penalty, context)
    expected = processor(mx.array(history, mx.int32) if history else [], mx.array([logits]))
    sampling = SampleSpec(repetition_penalty=penalty, context_tokens=context, history=history)
    assert choose(mx.array([logits]), sampling) == [mx.argmax(expected[0]).item()]


def test_an_empty_context_penalises_nothing() -> None:
    """A context of no tokens is no penalty."""
    logits = mx.array([[5.0] + [4.0] * (V - 1)])
    assert choose(logits, SampleSpec(repetition_penalty=9.0, context_tokens=0, history=(0,))) == [0]
    assert choose(logits, SampleSpec(repetition_penalty=9.0, context_tokens=1, history=(0,))) == [1]


@given(
    logits=st.lists(LOGITS, min_size=3, max_size=3),
    temperature=st.sampled_from([0.0, 1.0, 10.0]),
    top_p=st.sampled_from([0.01, 1.0]),
)
def test_masks_hold_at_any_temperature(logits: list[list[float]], temperature: float, top_p: float) -> None:
    """Forbidden tokens never come; where a word must begin, only those that begin one, at the first place only."""
    starts, forbidden = mx.arange(V) % 3 == 0, mx.arange(V) < 6
    sampling = SampleSpec(temperature=temperature, top_p=top_p, word_start=True)
    tokens = choose(mx.array(logits), sampling, Sampler(starts, forbidden), drafts=(7, 8))
    assert tokens[0] in (6, 9)
    assert all(token >= 6 for token in tokens)


@given(logits=st.lists(LOGITS, min_size=3, max_size=3), temperature=st.sampled_from([0.0, 1.0]))
def test_an_answer_keeps_to_its_line(logits: list[list[float]], temperature: float) -> None:
    """It has no line break, and opens with what may open it; words begin in it as elsewhere."""
    tokens = mx.arange(V)
    sampler = Sampler(tokens % 3 == 0, tokens < 2, tokens >= 10, (tokens == 4) | (tokens == 11))
    line = SampleSpec(temperature=temperature, one_line=True)
    for sampling, first in (
        (line, range(2, 10)),
        (replace(line, word_start=True), (3, 6, 9)),
        (replace(line, opening=True), (4,)),
        (SampleSpec(temperature=temperature, opening=True), range(2, V)),
    ):
        found = choose(mx.array(logits), sampling, sampler, drafts=(7, 8))
        assert found[0] in first
        assert all(2 <= token < (10 if sampling.one_line else V) for token in found)
        assert not sampling.after((7,)).opening


@given(
    logits=st.lists(LOGITS, min_size=3, max_size=3), temperature=st.sampled_from([0.0, 1.0]),
    options=st.fixed_dictionaries({name: st.booleans() for name in ("one_line", "opening", "word_start")}),
)  # fmt: skip
def test_an_answer_does_not_introduce_itself(
    logits: list[list[float]], temperature: float, options: dict[str, bool]
) -> None:
    """At no place, whatever else is asked for; where it may, nothing changes."""
    tokens = mx.arange(V)
    masks = tokens % 3 == 0, tokens < 2, tokens >= 10, (tokens == 4) | (tokens == 6)
    plain, sampler = Sampler(*masks), Sampler(*masks, introductions=(tokens == 3) | (tokens == 4))
    sampling = SampleSpec(temperature=temperature, **options)  # type: ignore[arg-type]
    told = choose(mx.array(logits), replace(sampling, no_introduction=True), sampler, drafts=(7, 8))
    assert not {3, 4} & {*told}
    assert choose(mx.array(logits), sampling, sampler, drafts=(7, 8)) == choose(
        mx.array(logits), sampling, plain, drafts=(7, 8)
    )

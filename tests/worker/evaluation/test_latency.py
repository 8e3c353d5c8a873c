"""AL, LAAL, AP and DAL: SimulEval's own values, and what follows from the definitions.

`simuleval_values.json` was written by `record_simuleval.py` beside it, which tells how to write it again.
"""

import doctest
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation import latency

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("simuleval_values.json").read_text(encoding="utf-8"))
LENGTHS = st.integers(1, 30)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Delays that never fall, the source's length and the reference's."""
    source = draw(LENGTHS)
    return sorted(draw(st.lists(st.integers(1, source), min_size=1, max_size=30))), source, draw(LENGTHS)


def all_measures(delays: list[float], source: float, target: float) -> dict[str, float]:
    """The four by their usual names."""
    return {
        "AL": latency.average_lagging(delays, source, target),
        "LAAL": latency.length_adaptive_average_lagging(delays, source, target),
        "AP": latency.average_proportion(delays, source, target),
        "DAL": latency.differentiable_average_lagging(delays, source),
    }


def test_values_are_those_of_simuleval() -> None:
    """On every recorded schedule all four measures agree, in words and with computing time in milliseconds."""
    assert RECORDED["simuleval"] == "1.1.4"
    assert len(RECORDED["schedules"]) == 100
    for found in RECORDED["schedules"]:
        source, target = found["source_length"], found["target_length"]
        assert all_measures(found["delays"], source, target) == pytest.approx(found["words"])
        source_ms = source * RECORDED["source_word_ms"]
        assert all_measures(found["elapsed_ms"], source_ms, target) == pytest.approx(found["ms"])


@given(st.integers(1, 12), LENGTHS)
def test_wait_k_lags_k_words(k: int, length: int) -> None:
    """On sentences of equal length wait-k lags k words by every measure, or the whole source if that is shorter."""
    delays = [min(k + i, length) for i in range(length)]
    measures = all_measures(list(delays), length, length)
    assert [measures[name] for name in ("AL", "LAAL", "DAL")] == pytest.approx([min(k, length)] * 3)


@given(schedules())
def test_the_unit_is_the_callers(schedule: tuple[list[int], int, int]) -> None:
    """Everything in milliseconds gives the lags in milliseconds, and the same proportion."""
    delays, source, target = schedule
    scaled = all_measures([delay * 300.0 for delay in delays], source * 300.0, target)
    plain = all_measures(list(delays), source, target)
    assert scaled == pytest.approx({name: value * (1 if name == "AP" else 300) for name, value in plain.items()})


@given(schedules())
def test_a_long_translation_is_not_rewarded(schedule: tuple[list[int], int, int]) -> None:
    """LAAL is never below AL, and equals it where the translation is no longer than its reference."""
    delays, source, target = schedule
    laal = latency.length_adaptive_average_lagging(delays, source, target)
    al = latency.average_lagging(delays, source, target)
    assert laal >= al - 1e-9
    assert len(delays) > target or laal == al


@given(LENGTHS, LENGTHS, LENGTHS)
def test_offline_lags_the_whole_source(num_words: int, source: int, target: int) -> None:
    """Reading everything first lags the source's length; every word waits for all of it."""
    measures = all_measures([source] * num_words, source, target)
    assert measures["AL"] == measures["LAAL"] == source
    assert measures["DAL"] == pytest.approx(source)
    assert measures["AP"] == pytest.approx(num_words / target)


@pytest.mark.parametrize(
    "measure", [latency.average_lagging, latency.length_adaptive_average_lagging, latency.average_proportion]
)
def test_what_has_no_latency_is_refused(measure: Callable[[list[float], float, float], float]) -> None:
    """No words, or a length of nothing."""
    with pytest.raises(ValueError, match="at least one target word"):
        measure([], 3, 3)
    with pytest.raises(ValueError, match="source_length 0"):
        measure([1], 0, 3)
    with pytest.raises(ValueError, match="source_length 0"):
        latency.differentiable_average_lagging([1], 0)


def test_examples_hold() -> None:
    """Every example of the module gives what it says."""
    assert doctest.testmod(latency) == (0, 4)

"""The figures of a run."""

import pytest
from msgspec.structs import replace

from worker.evaluation.run import Run, Translated
from worker.evaluation.scores import Latency, latency_ca_ms, latency_words, score

FIRST = Translated(
    line=1,
    source="a b c d",
    reference="e f g h",
    prediction="e f g h",
    source_words=4,
    reference_words=4,
    delays=(2, 3, 4, 4),
    compute_ms=(10.0, 20.0, 30.0, 40.0),
    finish_reason="stop",
)
EMPTY = replace(FIRST, line=2, prediction="", delays=(), compute_ms=())
CUT = replace(FIRST, line=3, delays=(4, 4, 4, 4), finish_reason="length")


def _run(*sentences: Translated) -> Run:
    return Run("wait-2", sentences, compute_s=0.5)


def test_latency_in_words_and_in_time() -> None:
    """Wait-2 lags two words; computing adds its own, all of it so far, to the time of the source."""
    assert latency_words(FIRST) == Latency(al=2.0, laal=2.0, ap=13 / 16, dal=2.0)
    found = latency_ca_ms(FIRST, 100)  # words at 210, 320 and 430 ms; the source ends at 400 ms
    assert found.al == found.laal == pytest.approx((210 + 220 + 230) / 3)
    assert found.ap == pytest.approx((210 + 320 + 430 + 440) / 1600)
    assert found.dal == pytest.approx((210 + 220 + 230 + 230) / 4)


def test_a_slower_engine_is_later() -> None:
    """The computing time of every word counts."""
    slower = replace(FIRST, compute_ms=tuple(3 * ms for ms in FIRST.compute_ms))
    assert latency_ca_ms(slower, 300).al > latency_ca_ms(FIRST, 300).al
    instant = replace(FIRST, compute_ms=(0.0,) * 4)
    assert latency_ca_ms(instant, 300).al == pytest.approx(300 * latency_words(instant).al)


def test_a_run_is_the_mean_of_its_sentences() -> None:
    """Translations without words have no latency, but count for the quality; cut ones are counted too."""
    found = score(_run(FIRST, EMPTY, CUT), language="fr", word_ms=100)
    assert found.policy == "wait-2"
    assert found.latency_words is not None
    assert found.latency_words.al == pytest.approx((2 + 4) / 2)
    assert found.latency_ca_ms is not None
    assert found.latency_ca_ms.al > 100 * found.latency_words.al
    assert (found.num_sentences, found.num_empty, found.num_cut) == (3, 1, 1)
    assert (found.num_words, found.words_per_s) == (8, 16)
    assert found.bleu.value < score(_run(FIRST, CUT), language="fr").bleu.value


def test_nothing_translated_has_no_latency() -> None:
    """And a quality of nothing."""
    found = score(_run(EMPTY), language="fr")
    assert (found.latency_words, found.latency_ca_ms, found.bleu.value) == (None, None, 0)

"""The figures of a run: quality of the corpus, mean latency of its sentences, speed."""

from collections.abc import Callable, Sequence
from statistics import fmean

import msgspec

from worker.evaluation import defaults, latency, quality
from worker.evaluation.run import Run, Translated


class Latency(msgspec.Struct, frozen=True):
    """The four measures: lags in words or milliseconds of source, AP as a proportion."""

    al: float
    laal: float
    ap: float
    dal: float


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's figures; the latencies are means over the sentences that got words, None if none did."""

    policy: str
    bleu: quality.Score
    chrf: quality.Score
    latency_words: Latency | None
    latency_ca_ms: Latency | None  # computation-aware: source at `word_ms` a word, plus all computing so far
    num_sentences: int
    num_empty: int  # translations without a word: they count for quality, but have no latency
    num_cut: int  # translations ended by a limit
    num_words: int
    words_per_s: float
    compute_s: float


def score(run: Run, *, language: str, word_ms: float = defaults.WORD_MS) -> Scores:
    """Compute the figures of this run into `language`, for a source spoken at `word_ms` a word."""
    predictions = [sentence.prediction for sentence in run.sentences]
    references = [sentence.reference for sentence in run.sentences]
    return Scores(
        policy=run.policy,
        bleu=quality.bleu(predictions, references, language),
        chrf=quality.chrf(predictions, references),
        latency_words=_mean(run.sentences, latency_words),
        latency_ca_ms=_mean(run.sentences, lambda sentence: latency_ca_ms(sentence, word_ms)),
        num_sentences=len(run.sentences),
        num_empty=sum(not sentence.delays for sentence in run.sentences),
        num_cut=sum(sentence.finish_reason == "length" for sentence in run.sentences),
        num_words=run.num_words,
        words_per_s=run.words_per_s,
        compute_s=run.compute_s,
    )


def latency_words(sentence: Translated) -> Latency:
    """Compute a sentence's latency in source words. Raises ValueError for a translation without words."""
    return _latency(sentence.delays, sentence.source_words, sentence.reference_words)


def latency_ca_ms(sentence: Translated, word_ms: float) -> Latency:
    """Compute a sentence's latency in ms: each word waits for its source to be spoken and for all computing so far.

    This is SimulEval's sum for speech, where computing never overlaps with speaking. Raises ValueError for a
    translation without words.
    """
    elapsed_ms = [
        delay * word_ms + computed for delay, computed in zip(sentence.delays, sentence.compute_ms, strict=True)
    ]
    return _latency(elapsed_ms, sentence.source_words * word_ms, sentence.reference_words)


def _latency(delays: Sequence[float], source_length: float, target_length: int) -> Latency:
    return Latency(
        al=latency.average_lagging(delays, source_length, target_length),
        laal=latency.length_adaptive_average_lagging(delays, source_length, target_length),
        ap=latency.average_proportion(delays, source_length, target_length),
        dal=latency.differentiable_average_lagging(delays, source_length),
    )


def _mean(sentences: Sequence[Translated], measure: Callable[[Translated], Latency]) -> Latency | None:
    latencies = [measure(sentence) for sentence in sentences if sentence.delays]
    if not latencies:
        return None
    return Latency(
        al=fmean(latency.al for latency in latencies),
        laal=fmean(latency.laal for latency in latencies),
        ap=fmean(latency.ap for latency in latencies),
        dal=fmean(latency.dal for latency in latencies),
    )

"""Quality of translations against references: sacrebleu's BLEU and chrF, with its signatures."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

_TOKENIZERS = {"zh": "zh", **dict.fromkeys(("ja", "th", "lo", "km", "my"), "char")}
SAMPLES = 1000
"""Resampled test sets of a paired bootstrap, as many as sacrebleu draws by default."""


class Score(msgspec.Struct, frozen=True):
    """A score of a corpus, 0 to 100, and sacrebleu's signature of its computation."""

    value: float
    signature: str


class Difference(msgspec.Struct, frozen=True):
    """A system compared with the baseline on one metric, by paired bootstrap resampling."""

    metric: str
    baseline: float
    system: float
    p_value: float  # probability of at least this difference if both are equally good
    signature: str


def bleu(predictions: Sequence[str], references: Sequence[str], language: str) -> Score:
    """Compute BLEU on raw text, mixed case, with sacrebleu's default tokenizer; for Chinese with its own, for other
    scripts without spaces by characters.
    """
    return _score(_bleu(language), predictions, references)


def chrf(predictions: Sequence[str], references: Sequence[str]) -> Score:
    """Compute chrF2 with sacrebleu's defaults: up to six characters in a row, no words."""
    return _score(CHRF(), predictions, references)


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]], references: Sequence[str], language: str, *, num_samples: int = SAMPLES
) -> dict[str, list[Difference]]:
    """Compare each system with the first, the baseline: BLEU and chrF with p-values, from sacrebleu's fixed seed.

    Raises ValueError for fewer than two systems.
    """
    if len(systems) < 2:
        raise ValueError(f"expected a baseline and at least one system to compare with it, got {len(systems)} in all")
    metrics = {"BLEU": _bleu(language), "chrF2": CHRF()}
    named = [(name, list(predictions)) for name, predictions in systems.items()]
    test = PairedTest(named, metrics, [list(references)], test_type="bs", n_samples=num_samples)
    signatures, results = test()
    _, *names = systems
    return {
        name: [_difference(metric, results[metric], i, signatures[metric]) for metric in metrics]
        for i, name in enumerate(names, 1)
    }


def _difference(metric: str, results: Sequence[Any], index: int, signature: Any) -> Difference:
    baseline, system = float(results[0].score), float(results[index].score)
    return Difference(
        metric=metric,
        baseline=baseline,
        system=system,
        # Equal translations have no difference, yet sacrebleu gives them the smallest possible p.
        p_value=1.0 if system == baseline else float(results[index].p_value),
        signature=signature.format(),
    )


def _bleu(language: str) -> Any:
    return BLEU(tokenize=_TOKENIZERS.get(language.partition("-")[0].lower(), "13a"))


def _score(metric: Any, predictions: Sequence[str], references: Sequence[str]) -> Score:
    if not references or len(predictions) != len(references):
        raise ValueError(
            f"expected one translation for each reference, got {len(predictions)} for {len(references)} references"
        )
    score = metric.corpus_score(list(predictions), [list(references)])
    return Score(float(score.score), str(metric.get_signature().format()))

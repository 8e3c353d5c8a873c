"""The search for an adaptive policy."""

from hypothesis import given
from hypothesis import strategies as st

from protocol import Adaptive, Policy, WaitK
from worker.evaluation.tuning import THRESHOLDS, Figures, bounds, search


def lagging(policy: Policy) -> Figures:
    """Figures of a model that gains by waiting, and lags more the surer it has to be."""
    if isinstance(policy, WaitK):
        return Figures(bleu=10.0 + policy.k, al=float(policy.k))
    assert isinstance(policy, Adaptive)
    al = policy.min_k + (policy.max_k - policy.min_k) * policy.threshold
    return Figures(bleu=12.0 + al, al=al)


@given(st.integers(1, 8), st.dictionaries(st.integers(0, 10_000), st.floats(0, 60), max_size=20))
def test_the_best_lags_no_more_than_wait_k(k: int, noise: dict[int, float]) -> None:
    """Nothing within wait-k's lag is better than what is chosen, wait-k itself included."""

    def measure(policy: Policy) -> tuple[Figures, ...]:
        figures = lagging(policy)
        return (Figures(figures.bleu + noise.get(hash(policy) % 10_000, 0.0), figures.al), figures)

    tuning = search(measure, k=k)
    rivals = [found for found in (tuning.baseline, *tuning.tried) if found.al <= tuning.baseline.al]
    assert tuning.best.al <= tuning.baseline.al
    assert tuning.best.bleu == max(found.bleu for found in rivals)


def test_thresholds_rise_until_the_lag_is_too_long_and_then_half_a_step_falls() -> None:
    """The last but one of each pair of bounds is the first that lags more than wait-k, if one does."""
    tuning = search(lambda policy: (lagging(policy),), k=3)
    for min_k, max_k in bounds(3):
        tried = [found for found in tuning.tried if (found.policy.min_k, found.policy.max_k) == (min_k, max_k)]  # type: ignore[union-attr]
        assert tried
        thresholds = [found.policy.threshold for found in tried]  # type: ignore[union-attr]
        if len(tried) == 1:
            assert tried[0].al > 3  # the boldest lags too long: there is nothing before it
            continue
        *rising, first_above, halfway = thresholds
        assert all(found.al <= 3 for found in tried[: len(rising)])
        assert tried[-2].al > 3
        assert rising == list(THRESHOLDS[: len(rising)])
        assert rising[-1] < halfway < first_above


def test_wait_k_stays_where_nothing_is_better() -> None:
    """A model that gains nothing by being sure keeps wait-k."""
    tuning = search(lambda policy: (Figures(20.0 if isinstance(policy, WaitK) else 19.0, 2.0),), k=3)
    assert tuning.best.policy == WaitK(k=3)

"""Adaptive: who is in doubt reads on."""

from protocol import policies as wire
from worker.core.policies import Drawn
from worker.core.policies.adaptive import Adaptive


def test_who_is_in_doubt_gets_surer_by_reading() -> None:
    """The threshold holds at min_k and falls to nothing at max_k; within a word it is that of one lag less."""
    policy = Adaptive(wire.Adaptive(min_k=1, max_k=5, threshold=0.8))

    def may_write(probability: float, lag: int, *, begins_word: bool) -> bool:
        return policy.may_write(Drawn(7 + lag, num_words=7, begins_word=begins_word, probability=probability))

    for lag, threshold in {1: 0.8, 2: 0.6, 3: 0.4, 4: 0.2}.items():
        assert may_write(threshold + 1e-9, lag, begins_word=True)
        assert not may_write(threshold - 1e-9, lag, begins_word=True)
        assert may_write(threshold + 1e-9, lag + 1, begins_word=False)
        assert lag == 4 or not may_write(threshold - 1e-9, lag + 1, begins_word=False)
    assert all(may_write(0.0, 5, begins_word=begins) for begins in (True, False))

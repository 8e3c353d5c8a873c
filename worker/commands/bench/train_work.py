"""What `decalage bench train` trains on: random pairs that look like short sentences."""

import msgspec
import numpy as np
from numpy.random import Generator

from worker.training.pairs import MemoryCorpus, Pair
from worker.training.recipe import Shape

_NUM_SPECIAL = 5  # token ids that are of no word
_START, _STOP, _EOS, _ANSWER = 1, 2, 3, 4
_LONG_WORDS = 0.4  # of all, with two tokens instead of one


class Workload(msgspec.Struct, frozen=True):
    """What is trained on what."""

    shape: Shape
    tokens_per_batch: int
    pair_tokens: int  # on average, source and target
    steps: int  # measured; one more comes first, to warm up


def random_pairs(workload: Workload) -> MemoryCorpus:
    """About three times the pairs that the steps need, of half to one and a half times the wanted tokens."""
    random, corpus = np.random.default_rng(0), MemoryCorpus()
    for _ in range(3 * (workload.steps + 1) * workload.tokens_per_batch // workload.pair_tokens + 1):
        corpus.add(_pair(random, workload))
    return corpus


def _pair(random: Generator, workload: Workload) -> Pair:
    given = 3  # the prompt, its end, and the answer's start
    part = (workload.pair_tokens * random.uniform(0.5, 1.5) - given) / 2 / (1 + _LONG_WORDS)
    source, target = (1 + (random.random(max(1, round(part))) < _LONG_WORDS) for _ in range(2))

    def words(num_tokens: int) -> list[int]:
        return [int(token) for token in random.integers(_NUM_SPECIAL, workload.shape.vocabulary, num_tokens)]

    return Pair(
        source=np.array([_START, *words(source.sum()), _STOP], np.int32),
        bounds=np.cumsum([1, *source, 1]).astype(np.int32),
        target=np.array([_ANSWER, *words(target.sum()), _EOS], np.int32),
        predicts=np.repeat(np.arange(len(target) + 1), [*target, 1]).astype(np.int32),
        num_given=0,
    )

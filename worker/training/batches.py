"""The order of an epoch: pairs of about the same length together, as many as fit into a batch, in random order.

A pure function of corpus, sizes, seed and epoch: a run that resumes asks for the same epoch again and goes on in it.
"""

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.training.pairs import Corpus, Ints

MULTIPLE = 4
"""Lengths are padded to multiples of it. Few shapes would only serve mx.compile, which on a CPU gains nothing here, and
short sentences would lose a third of each batch to padding with multiples of 16."""


class Place(msgspec.Struct, frozen=True):
    """Where a run is in its data: the batch that comes next."""

    epoch: int = 0
    batch: int = 0


def epoch_batches(corpus: Corpus, tokens_per_batch: int, seed: int, epoch: int) -> list[Ints]:
    """The indices of each batch of an epoch; every batch has at most `tokens_per_batch` tokens, padding included.

    A pair that is longer than a batch is a batch of its own.
    """
    random = np.random.default_rng((seed, epoch))
    chosen = drawn(np.array(corpus.weights, np.float64), random)
    lengths = -(-corpus.lengths()[chosen] // MULTIPLE) * MULTIPLE
    order = np.argsort(lengths, kind="stable")
    chosen, lengths = chosen[order], lengths[order]
    batches: list[Ints] = []
    start = 0
    while start < len(chosen):
        stop = min(len(chosen), start + max(1, tokens_per_batch // int(lengths[start])))
        while (stop - start) * lengths[stop - 1] > tokens_per_batch and stop - start > 1:
            stop -= 1
        batches.append(chosen[start:stop])
        start = stop
    return [batches[i] for i in random.permutation(len(batches))]


def drawn(weights: NDArray[np.float64], random: np.random.Generator) -> Ints:
    """Return the pairs of an epoch in random order: one with weight w floor(w) times, and once more with the
    probability of what is left.
    """
    copies = np.floor(weights + random.random(len(weights))).astype(np.int64)
    return random.permutation(np.repeat(np.arange(len(weights), dtype=np.int32), copies))


def batches_from(epoch_of: Callable[[int], list[Ints]], place: Place) -> Iterator[tuple[Ints, Place]]:
    """Batches without end from a place on, each with the place behind it; `epoch_of` gives those of an epoch."""
    epoch, first = place.epoch, place.batch
    while True:
        batches = epoch_of(epoch)
        for i in range(first, len(batches)):
            yield batches[i], Place(epoch, i + 1)
        epoch, first = epoch + 1, 0

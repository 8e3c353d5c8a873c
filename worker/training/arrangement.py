"""How the pairs of a corpus become batches, and a thread that makes them ahead of the steps."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from worker.training.batches import MULTIPLE, epoch_batches
from worker.training.pack import PackedCorpus, packed
from worker.training.packing import RowPacker
from worker.training.pairs import Batch, Corpus, Ints, make_batch
from worker.training.recipe import Recipe

_AHEAD: Final = 4  # batches
T = TypeVar("T")


class Arrangement(Protocol):
    """The batches of one corpus."""

    num_left_out: int  # pairs that no batch has room for

    def epoch(self, seed: int, epoch: int) -> list[Ints]:
        """Return the pairs of each batch of an epoch, a pure function of the two numbers."""
        ...

    def batch(self, indices: Ints, wait_k: int | None) -> Batch:
        """Return the batch of these pairs; `wait_k` None reads all source first."""
        ...


class LengthBuckets:
    """A pair a row, in batches of pairs of about the same length: least arithmetic, many shapes."""

    def __init__(self, corpus: Corpus, tokens_per_batch: int, position_offset: int) -> None:
        self._corpus, self._tokens_per_batch, self._position_offset = corpus, tokens_per_batch, position_offset
        self.num_left_out = 0

    def epoch(self, seed: int, epoch: int) -> list[Ints]:
        """Return the pairs of each batch."""
        return epoch_batches(self._corpus, self._tokens_per_batch, seed, epoch)

    def batch(self, indices: Ints, wait_k: int | None) -> Batch:
        """Return the batch of these pairs."""
        pairs = [self._corpus[int(index)] for index in indices]
        return make_batch(pairs, wait_k, self._position_offset, MULTIPLE)


def arrange(corpus: Corpus, recipe: Recipe, position_offset: int) -> Arrangement:
    """Return batches of one shape for a GPU, else those of least arithmetic."""
    if recipe.device != "cuda":
        return LengthBuckets(corpus, recipe.tokens_per_batch, position_offset)
    whole = corpus if isinstance(corpus, PackedCorpus) else packed(corpus)
    return RowPacker(whole, recipe.tokens_per_batch, position_offset)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of an endless iterator, made in a thread while the earlier ones are used."""
    with ThreadPoolExecutor(1, "batches") as pool:
        waiting: deque[Future[T]] = deque(pool.submit(next, items) for _ in range(_AHEAD))
        try:
            while True:
                item = waiting.popleft().result()
                waiting.append(pool.submit(next, items))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)

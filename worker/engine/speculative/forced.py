"""Drafts with a chosen acceptance rate, for benchmarks of models with random weights."""

import random
from collections.abc import Iterable, Mapping, Sequence

from worker.core.rows import Lane, Row
from worker.engine.speculative.runner import Drafter


class ForcedDrafter:
    """A drafter that proposes recorded output, each token replaced by a wrong one with a probability of 1 - `rate`.

    `texts` maps whole sources to the whole targets that the model will write (recorded without drafts, prompt
    included). If `drafter` is given, its passes run too, for their cost; its proposals are not used.
    """

    def __init__(
        self,
        texts: Mapping[tuple[int, ...], tuple[int, ...]],
        rate: float,
        *,
        drafter: Drafter | None = None,
        seed: int = 0,
    ) -> None:
        self._texts = texts
        self._rate = rate
        self._drafter = drafter
        self._random = random.Random(seed)
        self._read: dict[Lane, tuple[int, ...]] = {}

    def propose(self, rows: Sequence[Row]) -> dict[Lane, tuple[int, ...]]:
        """Return the next tokens of the recorded texts, some of them wrong."""
        if self._drafter is not None:
            self._drafter.propose(rows)
        for row in rows:
            self._read[row.lane] = self._read.get(row.lane, ())[: row.source_start] + row.source
        return {row.lane: self._coming(row) for row in rows if row.max_proposed}

    def _coming(self, row: Row) -> tuple[int, ...]:
        start = row.target_start + len(row.target)
        text = self._texts.get(self._read[row.lane], ())[start : start + row.max_proposed]
        return tuple(token if self._random.random() < self._rate else token ^ 1 for token in text)

    def drop(self, lanes: Iterable[Lane]) -> None:
        """Forget these lanes."""
        gone = tuple(lanes)
        for lane in gone:
            self._read.pop(lane, None)
        if self._drafter is not None:
            self._drafter.drop(gone)

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held."""
        return 0 if self._drafter is None else self._drafter.kv_bytes()

"""Runs plans: rows of token ids in, sampled token ids out; the lanes of all sessions live here.

One thread owns a runner, loads its model and evaluates; only Python values leave it.
"""

from collections.abc import Iterable, Sequence

import mlx.core as mx
import msgspec

from worker.core.ports import Draw, Lane, Row, Sampled
from worker.engine.cache import DualStreamingCache
from worker.engine.model import StreamingModel
from worker.engine.sampling import Sampler
from worker.engine.tokens import Vocabulary


class Counters(msgspec.Struct):
    """What a runner has done so far."""

    forwards: int = 0
    source_tokens: int = 0
    target_tokens: int = 0  # fed, drafts included
    proposed_drafts: int = 0
    accepted_drafts: int = 0


class Runner:
    """The lanes of a model, and the passes over them."""

    def __init__(self, model: StreamingModel, vocabulary: Vocabulary) -> None:
        self.model = model
        size = int(model(mx.array([[0]])).shape[-1])
        self._sampler = Sampler(vocabulary.word_starts(size), vocabulary.forbidden(size))
        self._lanes: dict[Lane, list[DualStreamingCache]] = {}
        self.counters = Counters()
        self._warm_up()

    def _warm_up(self) -> None:
        # The first pass builds what later ones find: a session should not wait for that.
        lane = (-1, -1)
        self.run([Row(lane, source=(0,) * 4, target=(0, 0), target_start=0, num_drafts=1, draw=Draw(word_start=True))])
        self._lanes.clear()
        self.counters = Counters()

    @property
    def num_lanes(self) -> int:
        """Lanes in use."""
        return len(self._lanes)

    def kv_bytes(self) -> int:
        """Bytes of all keys and values held."""
        return sum(cache.nbytes for lane in self._lanes.values() for cache in lane)

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Sampled, ...]:
        """What was sampled for each row; a row that fails reports its fault and loses its lane, the others go on."""
        for lane in dropped:
            self._lanes.pop(lane, None)
        return tuple(self._guarded(row) for row in rows)

    def _guarded(self, row: Row) -> Sampled:
        try:
            return self._row(row)
        except Exception as error:  # the tick's border: whatever a row meets ends that row alone
            self._lanes.pop(row.lane, None)
            return Sampled(fault=f"{type(error).__name__}: {error}")

    def _row(self, row: Row) -> Sampled:
        cache = self._lanes.get(row.lane)
        if cache is None:
            cache = self._lanes[row.lane] = self.model.make_cache(None if row.plain else -1)
        for layer in cache:
            layer.trim_target(layer.target_offset - row.target_start)
        logits = self.model.forward(row.source, row.target, cache)
        self.counters.forwards += 1
        self.counters.source_tokens += len(row.source)
        self.counters.target_tokens += len(row.target)
        if not row.target:
            mx.eval([array for layer in cache for array in layer.state])
            return Sampled()
        drafts = row.target[len(row.target) - row.num_drafts :]
        last = logits[0, -(row.num_drafts + 1) :]
        tokens = self._sampler.choose(last, row.draw, drafts)
        sure = self._sampler.probabilities(last, tokens) if row.draw.with_probabilities else mx.array([])
        mx.eval(tokens, sure)
        sampled = tuple(int(token) for token in tokens.tolist())  # type: ignore[union-attr, arg-type]
        self._count_drafts(drafts, sampled)
        return Sampled(tokens=sampled, probabilities=tuple(sure.tolist()))  # type: ignore[arg-type]

    def _count_drafts(self, drafts: Sequence[int], sampled: Sequence[int]) -> None:
        self.counters.proposed_drafts += len(drafts)
        for draft, token in zip(drafts, sampled, strict=False):
            if draft != token:
                break
            self.counters.accepted_drafts += 1

"""The drafts of `decalage bench table`: those of a draft model, or taken from a record of the translation."""

from collections.abc import Iterable, Sequence

import msgspec

from worker.commands.bench.forced import Forced
from worker.commands.bench.models import Harness, bare_runner, random_model
from worker.core.rows import Engine, Lane, Output, Row, sampled_tokens
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.speculative.forced import ForcedDrafter
from worker.engine.speculative.runner import Drafter, SpeculativeRunner

Texts = dict[tuple[int, ...], tuple[int, ...]]
"""The source tokens of each request, with all its target tokens, including the prompt's but not the end."""


class Drafts(msgspec.Struct, frozen=True):
    """The kind of drafts: those of a model, else forced ones, with the cost of `shape` if given."""

    model: str | None
    shape: str | None
    acceptance: float
    everywhere: bool  # also in passes that they do not speed up

    def __str__(self) -> str:
        where = ", in every pass" if self.everywhere else ""
        if self.model is not None:
            return f"Drafts by {self.model}{where}"
        cost = "they cost nothing" if self.shape is None else f"at the cost of {self.shape}"
        return f"Drafts forced to come true at a rate of {self.acceptance:.0%}, {cost}{where}"


class Recorder:
    """An engine around another one that records the source and the target tokens of each lane."""

    def __init__(self, engine: Engine, ends: frozenset[int]) -> None:
        self._engine = engine
        self._ends = ends
        self._sources: dict[Lane, tuple[int, ...]] = {}
        self._targets: dict[Lane, tuple[int, ...]] = {}

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Run the engine, record its tokens, and return its outputs."""
        outputs = self._engine.run(rows, dropped)
        for row, output in zip(rows, outputs, strict=True):
            self._sources[row.lane] = self._sources.get(row.lane, ()) + row.source
            before = self._targets.get(row.lane, ())[: row.target_start]
            self._targets[row.lane] = before + row.target + sampled_tokens(output)
        return outputs

    @property
    def lanes(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The source and the target tokens of each lane, the target without end tokens."""
        return [
            (source, tuple(token for token in self._targets[lane] if token not in self._ends))
            for lane, source in self._sources.items()
        ]


def with_drafts(harness: Harness, drafts: Drafts, texts: Texts) -> Harness:
    """Return the harness with an engine that drafts."""
    forced = None if harness.author is harness.runner else Forced(harness.runner, teacher=harness.author)
    clock_s = forced.clock_s if forced else harness.clock_s
    engine = SpeculativeRunner(
        forced or harness.runner, _drafter(harness, drafts, texts), clock_s=None if drafts.everywhere else clock_s
    )
    return harness._replace(engine=engine, clock_s=clock_s)


def _drafter(harness: Harness, drafts: Drafts, texts: Texts) -> Drafter:
    if drafts.model is not None:
        return DraftModel.load(drafts.model, harness.vocabulary)
    cost: Drafter | None = None
    if drafts.shape is not None:
        cost = DraftModel(bare_runner(random_model(drafts.shape)), frozenset())
    return ForcedDrafter(texts, drafts.acceptance, drafter=cost)

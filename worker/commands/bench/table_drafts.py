"""Where the drafts of `decalage bench table` come from: a draft model, or a record of what will be written."""

from collections.abc import Iterable, Sequence

import msgspec

from worker.commands.bench.forced import Forced
from worker.commands.bench.models import Harness, bare_runner, random_model
from worker.core.rows import Engine, Lane, Output, Row, sampled_tokens
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.speculative.forced import ForcedDrafter
from worker.engine.speculative.runner import Drafter, SpeculativeRunner

Texts = dict[tuple[int, ...], tuple[int, ...]]
"""For the source tokens of each request, all target tokens, the prompt's included, the end left out."""


class Drafts(msgspec.Struct, frozen=True):
    """What drafts are like: those of a model; else forced ones, with the passes of a shape where there is one."""

    model: str | None
    shape: str | None
    acceptance: float
    everywhere: bool  # also where they do not pay

    def __str__(self) -> str:
        where = ", in every pass" if self.everywhere else ""
        if self.model is not None:
            return f"Drafts by {self.model}{where}"
        cost = "they cost nothing" if self.shape is None else f"at the cost of {self.shape}"
        return f"Drafts forced to come true at a rate of {self.acceptance:.0%}, {cost}{where}"


class Recorder:
    """An engine around another one, which notes what is read and written in each lane."""

    def __init__(self, engine: Engine, ends: frozenset[int]) -> None:
        self._engine = engine
        self._ends = ends
        self._sources: dict[Lane, tuple[int, ...]] = {}
        self._targets: dict[Lane, tuple[int, ...]] = {}

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """What the engine sampled."""
        found = self._engine.run(rows, dropped)
        for row, output in zip(rows, found, strict=True):
            self._sources[row.lane] = self._sources.get(row.lane, ()) + row.source
            before = self._targets.get(row.lane, ())[: row.target_start]
            self._targets[row.lane] = before + row.target + sampled_tokens(output)
        return found

    @property
    def each(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """What was read in a lane, and what was written, for all lanes."""
        return [
            (source, tuple(token for token in self._targets[lane] if token not in self._ends))
            for lane, source in self._sources.items()
        ]


def with_drafts(harness: Harness, drafts: Drafts, texts: Texts) -> Harness:
    """The harness with an engine that drafts."""
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

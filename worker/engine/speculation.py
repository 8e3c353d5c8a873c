"""Speculative decoding: a drafter proposes tokens, the model verifies them all in the pass that it makes anyway.

A draft counts where it is the token that the model draws there itself, so the output is that of the model alone,
greedy or sampled, and the drafter only makes it faster (Leviathan et al. 2023, with the sampler's fixed noise in place
of a second draw).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from worker.core.ports import Lane, Row, Sampled
from worker.engine.runner import Counters, Runner


class Drafter(Protocol):
    """Proposes what may follow the rows of a tick. It is told of every row, and of every lane that is dropped."""

    def propose(self, rows: Sequence[Row]) -> Mapping[Lane, tuple[int, ...]]:
        """Tokens behind the last one of each row that has leave for them, at most its `max_proposed`."""

    def drop(self, lanes: Iterable[Lane]) -> None:
        """Nothing is kept about these lanes."""

    def kv_bytes(self) -> int:
        """Bytes of all keys and values held."""


class SpeculativeRunner:
    """A runner whose rows carry the proposals of a drafter, and all that these cost."""

    def __init__(self, runner: Runner, drafter: Drafter) -> None:
        self.runner = runner
        self.drafter = drafter

    @property
    def counters(self) -> Counters:
        """What the runner has done so far; the passes of a draft model do not count."""
        return self.runner.counters

    def kv_bytes(self) -> int:
        """Bytes of all keys and values held, the drafter's included."""
        return self.runner.kv_bytes() + self.drafter.kv_bytes()

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Sampled, ...]:
        """What was sampled for each row, and the drafts that were added to it."""
        gone = tuple(dropped)
        self.drafter.drop(gone)
        proposed = self.drafter.propose(rows)
        drafts = [proposed.get(row.lane, ()) for row in rows]
        longer = [_behind(row, more) for row, more in zip(rows, drafts, strict=True)]
        found = self.runner.run(longer, gone)
        return tuple(replace(sampled, proposed=more) for sampled, more in zip(found, drafts, strict=True))


def _behind(row: Row, drafts: tuple[int, ...]) -> Row:
    return replace(row, target=row.target + drafts, num_drafts=row.num_drafts + len(drafts)) if drafts else row

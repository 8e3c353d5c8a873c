"""The re-encode oracle: what the dual cache would be if earlier target words were encoded again after every read.

In service, the keys of a target word keep what they saw when it was written. The oracle computes them anew, seeing all
source read so far, at the price of a whole pass for every read. The difference in quality is what not doing so costs.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from worker.core.rows import Engine, Lane, Output, Row


class _Fed(msgspec.Struct, frozen=True):
    """What a lane holds, and how much of the source all of its target has seen."""

    source: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    seen_source: int = 0


class Oracle:
    """An engine around another one: no target key in its lanes has seen less source than was read by then."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lanes: dict[Lane, _Fed] = {}

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """What was sampled for each row; the dropped lanes are free."""
        gone = set(dropped)
        for lane in gone:
            self._lanes.pop(lane, None)
        whole = [self._row(row) for row in rows]
        gone |= {row.lane for row, again in zip(rows, whole, strict=True) if again is not row}
        return self._engine.run(whole, dropped=gone)

    def _row(self, row: Row) -> Row:
        # The row itself, or where target words would be left behind by the source: one that fills an empty lane.
        fed = self._lanes.get(row.lane, _Fed())
        source, target = fed.source + row.source, fed.target[: row.target_start] + row.target
        seen_source = len(source) if row.target else fed.seen_source
        self._lanes[row.lane] = _Fed(source, target if row.target else fed.target, seen_source)
        if not row.target or not row.target_start or fed.seen_source == len(source):
            return row
        return replace(row, source=source, target=target, target_start=0, source_start=0)

"""The re-encode oracle: an engine that encodes earlier target words again after every read.

In service, the keys of a target word depend on the source read when it was written. The oracle computes them anew from
all source read so far, at the cost of a whole pass for every read. The difference in quality is what service loses.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from worker.core.rows import Engine, Lane, Output, Row


class _Fed(msgspec.Struct, frozen=True):
    """The contents of a lane, and how much of the source all of its target has seen."""

    source: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    seen_source: int = 0


class Oracle:
    """An engine around another one, whose target keys always see all source that is read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lanes: dict[Lane, _Fed] = {}

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Free the dropped lanes, then return the output for each row."""
        freed = set(dropped)
        for lane in freed:
            self._lanes.pop(lane, None)
        whole_rows = [self._row(row) for row in rows]
        freed |= {row.lane for row, whole_row in zip(rows, whole_rows, strict=True) if whole_row is not row}
        return self._engine.run(whole_rows, dropped=freed)

    def _row(self, row: Row) -> Row:
        # The row itself, or, where target words have not seen all source, one that fills an empty lane.
        fed = self._lanes.get(row.lane, _Fed())
        source, target = fed.source + row.source, fed.target[: row.target_start] + row.target
        seen_source = len(source) if row.target else fed.seen_source
        self._lanes[row.lane] = _Fed(source, target if row.target else fed.target, seen_source)
        if not row.target or not row.target_start or fed.seen_source == len(source):
            return row
        return replace(row, source=source, target=target, target_start=0, source_start=0)

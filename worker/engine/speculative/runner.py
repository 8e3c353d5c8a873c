"""Speculative decoding: a drafter proposes tokens, the model verifies them all in the pass that it makes anyway.

A draft is accepted where the model draws the same token, so the output is that of the model alone, greedy or sampled,
and the drafter only makes it faster (Leviathan et al. 2023, with the sampler's fixed noise in place of a second draw).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Protocol

from msgspec.structs import replace

from worker.core.rows import Lane, Output, Row, Tokens, num_true, sampled_tokens
from worker.engine.runner import Counters
from worker.engine.speculative import autotune
from worker.engine.speculative.autotune import DraftAutotune

_LONG_TOKENS = 64
"""Source tokens of a read that is longer than a sentence: the drafter has to read it too."""
_MOST_UNUSUAL = 16
"""Unusual passes in a row; beyond that number, such passes are usual here and count."""


class Drafter(Protocol):
    """A source of drafts for the rows of a pass. It gets every row, and every dropped lane."""

    def propose(self, rows: Sequence[Row]) -> Mapping[Lane, tuple[int, ...]]:
        """Return tokens to follow the last one of each row that may have some, at most its `max_proposed`."""

    def drop(self, lanes: Iterable[Lane]) -> None:
        """Forget these lanes."""

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held."""


class PassRunner(Protocol):
    """A runner of passes: `worker.engine.runner.Runner`."""

    @property
    def counters(self) -> Counters:
        """The totals so far."""

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held."""

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        """Free the dropped lanes, then return what was sampled for each row."""


class SpeculativeRunner:
    """A runner that adds drafts to the rows when they pay, timed with `clock_s`; without a clock, always."""

    def __init__(
        self, runner: PassRunner, drafter: Drafter, *, clock_s: Callable[[], float] | None = perf_counter
    ) -> None:
        self.runner = runner
        self.drafter = drafter
        self._clock_s = clock_s
        self._autotunes: dict[int, DraftAutotune] = {}  # by the number of rows, in powers of two
        self._num_unusual: Counter[int] = Counter()  # unusual passes with drafts in a row, by the same
        self._progress = _Progress()
        self._undrafted: set[Lane] = set()  # fed since the drafter was last asked

    @property
    def counters(self) -> Counters:
        """The runner's totals so far, without the passes of a draft model."""
        return self.runner.counters

    def kv_bytes(self) -> int:
        """Return the bytes of all keys and values held, the drafter's included."""
        return self.runner.kv_bytes() + self.drafter.kv_bytes()

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        """Free the dropped lanes, then return what was sampled for each row, and the drafts that were added to it."""
        gone = tuple(dropped)
        self.drafter.drop(gone)
        self._progress.drop(gone)
        self._undrafted.difference_update(gone)
        size = len(rows).bit_length()
        tuning = self._autotunes.get(size) or self._initial_tuning(size, len(rows))
        has_drafts = tuning.drafts or self._clock_s is None
        start_s = self._clock_s() if self._clock_s else 0.0
        proposed = self.drafter.propose(rows if has_drafts else [replace(row, max_proposed=0) for row in rows])
        drafts = [proposed.get(row.lane, ()) for row in rows]
        drafted = [_with_drafts(row, more) for row, more in zip(rows, drafts, strict=True)]
        results = self.runner.run(drafted, gone)
        num_tokens = self._progress.after(rows, drafted, results)
        is_usual = self._is_usual(rows, has_drafts=has_drafts)
        if self._clock_s and any(map(sampled_tokens, results)):
            self._num_unusual[size] = 0 if is_usual else self._num_unusual[size] + has_drafts
            if is_usual or self._num_unusual[size] > _MOST_UNUSUAL:
                self._autotunes[size] = autotune.learn(tuning, num_tokens, self._clock_s() - start_s)
        return tuple(
            replace(output, proposed=more) if isinstance(output, Tokens) else output
            for output, more in zip(results, drafts, strict=True)
        )

    def _initial_tuning(self, size: int, num_rows: int) -> DraftAutotune:
        if not self._autotunes:
            return autotune.initial(num_rows)
        neighbour = min(self._autotunes, key=lambda other: (not self._autotunes[other].is_known, abs(other - size)))
        return autotune.from_neighbour(self._autotunes[neighbour], is_larger=neighbour > size)

    def _is_usual(self, rows: Sequence[Row], *, has_drafts: bool) -> bool:
        # Tell whether a pass is typical of its kind: not if a long text is read or a lane rebuilt, nor if the drafter
        # had to catch up with a lane first.
        asked_lanes = {row.lane for row in rows if row.max_proposed and has_drafts}
        catches_up = not asked_lanes.isdisjoint(self._undrafted)
        if has_drafts:
            self._undrafted -= asked_lanes
        else:
            self._undrafted.update(row.lane for row in rows)
        is_long = any(len(row.source) > _LONG_TOKENS or row.visible_source for row in rows)
        return not catches_up and not is_long


def _with_drafts(row: Row, drafts: tuple[int, ...]) -> Row:
    return replace(row, target=row.target + drafts, num_drafts=row.num_drafts + len(drafts)) if drafts else row


class _Progress:
    """Tokens of text that passes add, less those that a lane's next row takes back after more source."""

    def __init__(self) -> None:
        self._ends: dict[Lane, int] = {}  # the known length of each lane's text

    def after(self, rows: Sequence[Row], drafted: Sequence[Row], results: Sequence[Output]) -> int:
        """Return the tokens that the lanes have gained by a pass; the rows' own drafts are not new."""
        num_tokens = 0
        for row, fed, output in zip(rows, drafted, results, strict=True):
            if sampled := sampled_tokens(output):
                known = row.target_start + len(row.target)
                end = known - row.num_drafts + num_true(fed.drafts, sampled) + 1
                num_tokens += end - self._ends.get(row.lane, known)
                self._ends[row.lane] = end
        return num_tokens

    def drop(self, lanes: Iterable[Lane]) -> None:
        """Forget these lanes."""
        for lane in lanes:
            self._ends.pop(lane, None)

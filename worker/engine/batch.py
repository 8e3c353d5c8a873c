"""One pass over the rows of all lanes: their tokens side by side, so that no matrix product computes padding.

Only attention tells rows apart. It is computed for each part of a pass, the rows of one pool and of like length.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.core.rows import Row
from worker.engine.adapters import kernels
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.pool import Allocation, Pool
from worker.engine.kv.slots import Placed, visible


class BatchRow(msgspec.Struct, frozen=True):
    """A row's share of a pass, and the lane that it goes to."""

    allocation: Allocation
    row: Row

    @property
    def tokens(self) -> tuple[int, ...]:
        """All that is fed, source first."""
        return self.row.source + self.row.target

    @property
    def asks(self) -> bool:
        """Which source tokens the drawn tokens attend to is asked for."""
        return self.row.sampling.aligned_from is not None and self.row.num_samples > 0

    def place(self) -> Placed:
        """Its tokens are in the lane's slots."""
        return self.allocation.slots.place(len(self.row.source), len(self.row.target), self.row.visible_source)


class AttentionCapture:
    """What the queries that tokens are drawn from attend to, for those rows of a part that ask.

    `tokens` (A, T) are those queries among the pass's, of each share the last T, `rows` (A,) their rows of the pool and
    `mask` (A, 1, T, L) what they see. `weights` (A, T, L) come to be averages over the heads, summed over the layers.
    """

    def __init__(
        self, pool: Pool, shares: Sequence[BatchRow], tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> None:
        self.shares, self.weights = shares, mx.array(0.0)
        self._pool, self._shape = pool, tokens.shape
        self._tokens, self._mask = mx.array(tokens.reshape(-1)), mx.array(mask[:, None])
        self._rows = mx.array([share.allocation.row for share in shares])

    def weigh(self, layer: int, queries: mx.array, scale: float) -> None:
        """One more layer is in the weights, by the pass's queries (1, H, N, D)."""
        picked = mx.take(queries[0], self._tokens, axis=1)
        mine = picked.reshape(picked.shape[0], *self._shape, picked.shape[-1]).transpose(1, 0, 2, 3)
        keys, _ = self._pool.held(layer, self._rows, self._mask.shape[-1])
        self.weights = self.weights + kernels.weights(mine, keys, mask=self._mask, scale=scale)


class SingleGroup:
    """One row's part of a pass: where its keys and values go, and what it sees.

    `at` are the pool's row and the slot of each token, (N,) each; `rows` an index of the pool's rows that attention
    takes, here one; `mask` (N, L) bool, true where a token sees one of the row's first L slots; `span` are the part's
    among the pass's tokens.
    """

    num_padding = 0
    is_single = True

    def __init__(
        self, pool: Pool, at: tuple[mx.array, mx.array], rows: Any, mask: mx.array, span: slice = slice(None)
    ) -> None:
        self.pool, self.at, self.mask = pool, at, mask
        self.capture: AttentionCapture | None = None  # if one of its rows asks
        self._rows, self._span = rows, span

    def store(self, layer: int, keys: mx.array, values: mx.array) -> None:
        """The pool holds the part's keys and values, of the pass's (1, H, N, D)."""
        fresh = [each[0, :, self._span].transpose(1, 0, 2) for each in (keys, values)]
        self.pool.store(layer, self.at, *fresh)

    def held(self, layer: int) -> tuple[mx.array, mx.array]:
        """Keys and values (R, H, L, D) of its rows."""
        return self.pool.held(layer, self._rows, self.mask.shape[-1])

    def attend(self, layer: int, queries: mx.array, **options: Any) -> mx.array:
        """What the part's tokens read, (H, n, D), for the pass's queries (1, H, N, D)."""
        keys, values = self.held(layer)
        return kernels.attention(queries[:, :, self._span], keys, values, mask=self.mask, **options)[0]


class PaddedGroup(SingleGroup):
    """The part of several rows of one pool: `mask` (R, 1, T, L), for attention over a grid of R rows of T tokens.

    `lines` are the rows' places in the grid, `lengths` their numbers of tokens.
    """

    is_single = False

    def __init__(self, *where: Any, lines: Sequence[int], lengths: Sequence[int]) -> None:
        super().__init__(*where)
        self._num_lines, _, self._width, _ = self.mask.shape
        # From the part's tokens to the grid's cells and back; padding is a copy of some token.
        cells = np.zeros((self._num_lines, self._width), np.int32)
        filled: list[int] = []
        first = 0
        for line, length in zip(lines, lengths, strict=True):
            cells[line] = first + np.minimum(np.arange(self._width), length - 1)
            filled += range(line * self._width, line * self._width + length)
            first += length
        self.num_padding = cells.size - first
        is_full = filled == list(range(cells.size))
        self._cells = None if is_full else mx.array(cells.reshape(-1))
        self._filled = None if is_full else mx.array(filled)

    def attend(self, layer: int, queries: mx.array, **options: Any) -> mx.array:
        """What the part's tokens read, (H, n, D), for the pass's queries (1, H, N, D)."""
        mine = queries[0, :, self._span]
        heads, _, size = mine.shape
        spread = mine if self._cells is None else mx.take(mine, self._cells, axis=1)
        grid = spread.reshape(heads, self._num_lines, self._width, size).transpose(1, 0, 2, 3)
        keys, values = self.held(layer)
        read = kernels.attention(grid, keys, values, mask=self.mask, **options)
        flat = read.transpose(1, 0, 2, 3).reshape(heads, -1, read.shape[-1])
        return flat if self._filled is None else mx.take(flat, self._filled, axis=1)


def _part(pool: Pool, shares: Sequence[BatchRow], first: int) -> tuple[SingleGroup, list[int]]:
    # The part of these shares, whose tokens begin at the first, and their positions.
    part, positions, seen = _placed(pool, shares, first)
    if any(share.asks for share in shares):
        part.capture = _capture(pool, shares, first, seen)
    return part, positions


def _capture(pool: Pool, shares: Sequence[BatchRow], first: int, seen: NDArray[np.bool_]) -> AttentionCapture:
    ends = accumulate(len(share.tokens) for share in shares)
    asking = [(line, share, end) for line, (share, end) in enumerate(zip(shares, ends, strict=True)) if share.asks]
    last = np.arange(-max(share.row.num_samples for _, share, _ in asking), 0)
    columns = [np.maximum(0, len(share.tokens) + last) for _, share, _ in asking]
    tokens = [first + end - len(share.tokens) + each for (_, share, end), each in zip(asking, columns, strict=True)]
    mask = [seen[line, each] for (line, _, _), each in zip(asking, columns, strict=True)]
    return AttentionCapture(pool, [share for _, share, _ in asking], np.array(tokens, np.int32), np.stack(mask))


def _placed(pool: Pool, shares: Sequence[BatchRow], first: int) -> tuple[SingleGroup, list[int], NDArray[np.bool_]]:
    # And who sees whom in it, (R, T, L).
    rows = [share.allocation.row for share in shares]
    lengths = [len(share.tokens) for share in shares]
    placed = [share.place() for share in shares]
    positions = [position for each in placed for position in each.positions]
    at = (
        mx.array([row for row, length in zip(rows, lengths, strict=True) for _ in range(length)]),
        mx.array([slot for each in placed for slot in each.slots]),
    )
    span = slice(first, first + len(positions))
    # For one row few numbers of slots, so that a compiled graph is found again; for many only those that are needed.
    step = 128 if len(shares) == 1 else 16
    top = min(pool.length, -(-max(share.allocation.slots.top for share in shares) // step) * step)
    seen = visible(np.stack([share.allocation.slots.ranks[:top] for share in shares]), placed, max(lengths))
    if len(shares) == 1:
        # Its mask has no row: some attentions have another number of dimensions and could not take it.
        return SingleGroup(pool, at, slice(rows[0], rows[0] + 1), mx.array(seen[0]), span), positions, seen
    # Where about all of the pool's rows take part, the grid is the pool's own, and nothing needs gathering; else it has
    # a line for each share.
    is_whole = max(rows) < 2 * len(rows)
    lines = rows if is_whole else list(range(len(rows)))
    num_lines = max(lines) + 1
    mask = mx.array(_spread(seen, lines, num_lines))
    taken = slice(num_lines) if is_whole else mx.array(rows)
    return PaddedGroup(pool, at, taken, mask, span, lines=lines, lengths=lengths), positions, seen


def _spread(seen: NDArray[np.bool_], lines: Sequence[int], num_lines: int) -> NDArray[np.bool_]:
    # (R, 1, T, L); lines of nobody see everything, so that no softmax is over nothing.
    if lines == list(range(num_lines)):
        return seen[:, None]
    grid = np.ones((num_lines, 1, *seen.shape[1:]), np.bool_)
    grid[lines, 0] = seen
    return grid


class ForwardBatch:
    """The parts of one pass, its tokens and their positions (1, N) int32, part after part, and the highest of these."""

    def __init__(
        self, parts: Sequence[SingleGroup], tokens: mx.array, positions: mx.array, last_position: int = 0
    ) -> None:
        self.parts, self.tokens, self.positions, self.last_position = parts, tokens, positions, last_position
        self.num_attended = 0  # layers that have attended by `BatchCache.attend`

    @property
    def is_single(self) -> bool:
        """There is but one row, and any attention will do."""
        return len(self.parts) == 1 and self.parts[0].is_single

    @property
    def num_padding(self) -> int:
        """Cells of attention's grids that hold no token."""
        return sum(part.num_padding for part in self.parts)

    def caches(self, num_layers: int) -> list["BatchCache"]:
        """One for each layer of the model."""
        return [BatchCache(self, layer) for layer in range(num_layers)]


def make_batch(groups: Iterable[tuple[Pool, Sequence[BatchRow]]]) -> ForwardBatch:
    """The pass over these shares, those of a pool and of like length together; their tokens are placed."""
    parts: list[SingleGroup] = []
    tokens: list[int] = []
    positions: list[int] = []
    for pool, shares in groups:
        part, places = _part(pool, shares, len(tokens))
        parts.append(part)
        tokens += [token for share in shares for token in share.tokens]
        positions += places
    return ForwardBatch(parts, mx.array([tokens]), mx.array([positions]), max(positions))


class BatchCache:
    """A layer's part in a pass, behind the cache surface of mlx-lm's layers."""

    offset = 0  # positions are explicit

    def __init__(self, whole: ForwardBatch, layer: int) -> None:
        self._batch = whole
        self._layer = layer
        self._given: tuple[mx.array, mx.array]

    @property
    def is_single(self) -> bool:
        """The pass has but one row."""
        return self._batch.is_single

    def make_mask(self, *_: Any, **__: Any) -> mx.array | None:
        """The mask (T, L) bool of a single row, true where a query sees a key; None for more, whose `attend` has it."""
        return self._batch.parts[0].mask if self.is_single else None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Stores keys and values (1, H, N, D); all of a single row (1, H, L, D), the given ones for more rows."""
        for part in self._batch.parts:
            part.store(self._layer, keys, values)
        self._given = self._batch.parts[0].held(self._layer) if self.is_single else (keys, values)
        return self._given

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
        """What the queries (1, H, N, D) read, each of its own row; `options` are those of mx.fast's attention.

        Raises UnsupportedModel where the layer would attend to other keys or values than those it gave.
        """
        if keys is not self._given[0] or values is not self._given[1]:
            raise UnsupportedModel("its layers change what they fetch before they attend to it")
        self._batch.num_attended += 1
        for part in self._batch.parts:
            if part.capture is not None:
                part.capture.weigh(self._layer, queries, options["scale"])
        read = [part.attend(self._layer, queries, **options) for part in self._batch.parts]
        return (read[0] if len(read) == 1 else mx.concatenate(read, axis=1))[None]

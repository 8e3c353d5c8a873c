"""One forward pass over the rows of many lanes: their tokens, positions and masks, and what attention does with them.

Tokens lie side by side, so that no matrix product computes padding. Only attention tells rows apart: it is computed for
each group, the rows of one pool and of like length.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import msgspec
import numpy as np

from worker.core.rows import Row
from worker.engine.adapters import kernels
from worker.engine.errors import UnsupportedModel
from worker.engine.kv.pool import Allocation, Pool
from worker.engine.visibility import Bools, attention_mask

# Attention reads multiples of these many slots: few sizes for one row, so that compiled graphs are reused.
_SINGLE_STEP, _PADDED_STEP = 128, 16


class BatchRow(msgspec.Struct, frozen=True):
    """A row of a batch, and the allocation of its lane."""

    allocation: Allocation
    row: Row

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens to feed, source first."""
        return self.row.source + self.row.target


class SlotMapping(NamedTuple):
    """The pool's row and the slot that each token of a group goes to, (N,) int32 each."""

    rows: mx.array
    slots: mx.array


class LayerObserver(Protocol):
    """An observer of the queries of each layer."""

    def add_layer(self, layer: int, queries: mx.array, scale: float) -> None:
        """Take the batch's queries (1, H, N, D) of a layer, to be multiplied by `scale`."""


class SingleGroup:
    """One row of a pool: the slots of its keys and values, and its mask.

    `pool_rows` is an index of the pool's rows that attention takes, here one; `mask` (N, L) bool, true where a token
    sees one of the row's first L slots; `start` is the place of the group's first token in the batch.
    """

    num_padding = 0
    is_single = True

    def __init__(
        self, pool: Pool, slot_mapping: SlotMapping, pool_rows: Any, mask: mx.array, *, rows: Sequence[BatchRow] = (),
        start: int = 0,
    ) -> None:  # fmt: skip
        self.pool, self.mask, self.slot_mapping, self.rows, self.start = pool, mask, slot_mapping, rows, start
        self.observer: LayerObserver | None = None
        self._pool_rows = pool_rows
        self._span = slice(start, start + slot_mapping.slots.size)

    def start_of(self, index: int) -> int:
        """Return the place in the batch of the first token of one of the rows."""
        return self.start + sum(len(row.tokens) for row in self.rows[:index])

    def visible_to(self, index: int, columns: mx.array) -> mx.array:
        """Return what some tokens of one of the rows see: (T, L) bool; `columns` (T,) int are their places in it."""
        return self.mask[columns]

    def store(self, layer: int, keys: mx.array, values: mx.array) -> None:
        """Store the group's keys and values, of the batch's (1, H, N, D), in its pool."""
        keys, values = (array[0, :, self._span].transpose(1, 0, 2) for array in (keys, values))
        self.pool.store(layer, self.slot_mapping, keys, values)

    def fetch(self, layer: int) -> tuple[mx.array, mx.array]:
        """Return keys and values (R, H, L, D) of its rows."""
        return self.pool.fetch(layer, self._pool_rows, self.mask.shape[-1])

    def attend(self, layer: int, queries: mx.array, **options: Any) -> mx.array:
        """Return what the group's tokens read, (H, n, D), for the batch's queries (1, H, N, D)."""
        keys, values = self.fetch(layer)
        return kernels.attention(queries[:, :, self._span], keys, values, mask=self.mask, **options)[0]


class PaddedGroup(SingleGroup):
    """Several rows of one pool: `mask` (R, 1, T, L), for attention over a grid of R lines of T tokens.

    `lines` are the rows' places in the grid.
    """

    is_single = False

    def __init__(
        self, pool: Pool, slot_mapping: SlotMapping, pool_rows: Any, mask: mx.array, *, rows: Sequence[BatchRow],
        start: int, lines: Sequence[int],
    ) -> None:  # fmt: skip
        super().__init__(pool, slot_mapping, pool_rows, mask, rows=rows, start=start)
        self._lines = lines
        self._num_lines, _, self._width, _ = self.mask.shape
        # From the group's tokens to the grid's cells and back; padding is a copy of some token.
        cells = np.zeros((self._num_lines, self._width), np.int32)
        filled: list[int] = []
        offset = 0
        for line, row in zip(lines, rows, strict=True):
            length = len(row.tokens)
            cells[line] = offset + np.minimum(np.arange(self._width), length - 1)
            filled += range(line * self._width, line * self._width + length)
            offset += length
        self.num_padding = cells.size - offset
        is_full = filled == list(range(cells.size))
        self._cells = None if is_full else mx.array(cells.reshape(-1))
        self._filled = None if is_full else mx.array(filled)

    def visible_to(self, index: int, columns: mx.array) -> mx.array:
        """Return what some tokens of one of the rows see: (T, L) bool; `columns` (T,) int are their places in it."""
        return self.mask[self._lines[index], 0][columns]

    def attend(self, layer: int, queries: mx.array, **options: Any) -> mx.array:
        """Return what the group's tokens read, (H, n, D), for the batch's queries (1, H, N, D)."""
        own = queries[0, :, self._span]
        heads, _, size = own.shape
        cells = own if self._cells is None else mx.take(own, self._cells, axis=1)
        grid = cells.reshape(heads, self._num_lines, self._width, size).transpose(1, 0, 2, 3)
        keys, values = self.fetch(layer)
        output = kernels.attention(grid, keys, values, mask=self.mask, **options)
        flat = output.transpose(1, 0, 2, 3).reshape(heads, -1, output.shape[-1])
        return flat if self._filled is None else mx.take(flat, self._filled, axis=1)


class BatchAttention:
    """The groups of a batch, and the number of layers that have attended by `BatchCache.attend`."""

    def __init__(self, groups: Sequence[SingleGroup]) -> None:
        self.groups = groups
        self.num_attended_layers = 0

    @property
    def is_single(self) -> bool:
        """Whether there is only one row, for which any attention will do."""
        return len(self.groups) == 1 and self.groups[0].is_single

    @property
    def num_padding(self) -> int:
        """Cells of the attention grids that hold no token."""
        return sum(group.num_padding for group in self.groups)

    def caches(self, num_layers: int) -> list["BatchCache"]:
        """Return a cache for each layer of the model."""
        return [BatchCache(self, layer) for layer in range(num_layers)]


class BatchCache:
    """A layer's keys and values of a batch, behind the cache surface of mlx-lm's layers."""

    offset = 0  # positions are explicit

    def __init__(self, attention: BatchAttention, layer: int) -> None:
        self._attention = attention
        self._layer = layer
        self._fetched: tuple[mx.array, mx.array]

    def make_mask(self, *_: Any, **__: Any) -> mx.array | None:
        """Return the mask (T, L) bool of a single row, true where a query sees a key; None for more, whose `attend` has
        it.
        """
        return self._attention.groups[0].mask if self._attention.is_single else None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store keys and values (1, H, N, D); return all of a single row (1, H, L, D), the given ones for more rows."""
        groups = self._attention.groups
        for group in groups:
            group.store(self._layer, keys, values)
        self._fetched = groups[0].fetch(self._layer) if self._attention.is_single else (keys, values)
        return self._fetched

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
        """Return what the queries (1, H, N, D) read, each of its own row; `options` are those of mx.fast's attention.

        Raises UnsupportedModel where the layer would attend to other keys or values than those it fetched.
        """
        if keys is not self._fetched[0] or values is not self._fetched[1]:
            raise UnsupportedModel(
                "its layers attend to other keys and values than they store, as with compressed ones (multi-head "
                "latent attention, MLA)"
            )
        self._attention.num_attended_layers += 1
        groups = self._attention.groups
        for group in groups:
            if group.observer is not None:
                group.observer.add_layer(self._layer, queries, options["scale"])
        outputs = [group.attend(self._layer, queries, **options) for group in groups]
        return (outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=1))[None]


class ForwardBatch(NamedTuple):
    """A pass: tokens and positions (1, N) int32, group after group, the highest position, and the attention."""

    attention: BatchAttention
    tokens: mx.array
    positions: mx.array
    last_position: int


def make_batch(rows_by_pool: Iterable[tuple[Pool, Sequence[BatchRow]]]) -> ForwardBatch:
    """Give the tokens of these rows their slots, and return the pass over them; rows of one pool and of like length
    come together.
    """
    groups: list[SingleGroup] = []
    tokens: list[int] = []
    positions: list[int] = []
    for pool, rows in rows_by_pool:
        group, group_positions = _make_group(pool, rows, len(tokens))
        groups.append(group)
        tokens += [token for row in rows for token in row.tokens]
        positions += group_positions
    return ForwardBatch(BatchAttention(groups), mx.array([tokens]), mx.array([positions]), max(positions))


def _make_group(pool: Pool, rows: Sequence[BatchRow], start: int) -> tuple[SingleGroup, list[int]]:
    # The group of these rows, and the positions of their tokens.
    allocations = [row.allocation for row in rows]
    appended = [
        row.allocation.slots.append(len(row.row.source), len(row.row.target), row.row.visible_source) for row in rows
    ]
    pool_rows = [allocation.pool_row for allocation in allocations]
    slot_mapping = SlotMapping(
        mx.array([row for row, (slots, _) in zip(pool_rows, appended, strict=True) for _ in slots]),
        mx.array([slot for slots, _ in appended for slot in slots]),
    )
    positions = [position for _, metadata in appended for position in metadata.positions]
    step = _SINGLE_STEP if len(rows) == 1 else _PADDED_STEP
    top = min(pool.length, -(-max(allocation.slots.top for allocation in allocations) // step) * step)
    width = max(len(row.tokens) for row in rows)
    mask = attention_mask(
        np.stack([allocation.slots.ranks[:top] for allocation in allocations]),
        [_padded(metadata.visible_source, width) for _, metadata in appended],
        [_padded(metadata.visible_target, width) for _, metadata in appended],
    )
    if len(rows) == 1:
        # Its mask has no axis for rows: some attentions have another number of dimensions and could not take it.
        rows_index = slice(pool_rows[0], pool_rows[0] + 1)
        return SingleGroup(pool, slot_mapping, rows_index, mx.array(mask[0]), rows=rows, start=start), positions
    # Where about all of the pool's rows take part, the grid is the pool's own, and nothing needs gathering; else it has
    # a line for each row.
    has_pool_lines = max(pool_rows) < 2 * len(rows)
    lines = pool_rows if has_pool_lines else list(range(len(rows)))
    num_lines = max(lines) + 1
    where = slice(num_lines) if has_pool_lines else mx.array(pool_rows)
    grid_mask = mx.array(_grid_mask(mask, lines, num_lines))
    return PaddedGroup(pool, slot_mapping, where, grid_mask, rows=rows, start=start, lines=lines), positions


def _padded(numbers: list[int], width: int) -> list[int]:
    # Padding sees what the last token sees.
    return numbers + numbers[-1:] * (width - len(numbers))


def _grid_mask(mask: Bools, lines: Sequence[int], num_lines: int) -> Bools:
    # (R, 1, T, L); lines of no row see everything, so that no softmax is over nothing.
    if lines == list(range(num_lines)):
        return mask[:, None]
    grid = np.ones((num_lines, 1, *mask.shape[1:]), np.bool_)
    grid[lines, 0] = mask
    return grid

"""One pass over the rows of all lanes: their tokens side by side, so that no matrix product computes padding.

Only attention tells rows apart. It is computed for each `Part`, the rows of one pool and of like length, as a grid.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.core.ports import Row
from worker.engine import kernels
from worker.engine.errors import UnsupportedModel
from worker.engine.pool import Pool, Tenant
from worker.engine.slots import Placed, visible


class Share(msgspec.Struct, frozen=True):
    """A row's share of a pass, and the lane that it goes to."""

    tenant: Tenant
    row: Row

    @property
    def tokens(self) -> tuple[int, ...]:
        """All that is fed, source first."""
        return self.row.source + self.row.target

    def place(self) -> Placed:
        """Its tokens are in the lane's slots."""
        return self.tenant.slots.place(len(self.row.source), len(self.row.target), self.row.sights)


class Part:
    """Some shares of one pool: where their keys and values go, at which positions, and who sees whom.

    Attention takes a grid of R rows of T tokens over L slots. Where about all of the pool's rows take part, the grid is
    the pool's own, and nothing needs gathering; else it has a row for each share.
    """

    def __init__(self, pool: Pool, shares: Sequence[Share], start: int) -> None:
        self.pool = pool
        rows = [share.tenant.row for share in shares]
        lengths = [len(share.tokens) for share in shares]
        self.width = max(lengths)
        placed = [share.place() for share in shares]
        self.positions = [position for each in placed for position in each.positions]
        self.span = slice(start, start + len(self.positions))
        self.at = (
            mx.array([row for row, length in zip(rows, lengths, strict=True) for _ in range(length)]),
            mx.array([slot for each in placed for slot in each.slots]),
        )
        self.top = min(pool.length, -(-max(share.tenant.slots.top for share in shares) // 16) * 16)
        self.is_single = len(shares) == 1
        is_whole = max(rows) < 2 * len(rows) and not self.is_single
        lines = rows if is_whole else list(range(len(rows)))  # of the grid
        self.num_lines = max(lines) + 1
        # The pool's rows that are the grid's.
        self.rows = (
            slice(self.num_lines) if is_whole else slice(rows[0], rows[0] + 1) if self.is_single else mx.array(rows)
        )
        self._index(lines, lengths)
        seen = visible(np.stack([share.tenant.slots.ranks[: self.top] for share in shares]), placed, self.width)
        # One row's mask has no row: some attentions have another number of dimensions and could not take it.
        self.mask = mx.array(seen[0] if self.is_single else self._grid(seen, lines))

    def _index(self, lines: Sequence[int], lengths: Sequence[int]) -> None:
        # From the part's tokens to the grid's cells and back; padding is a copy of some token.
        cells = np.zeros((self.num_lines, self.width), np.int32)
        filled: list[int] = []
        first = 0
        for line, length in zip(lines, lengths, strict=True):
            cells[line] = first + np.minimum(np.arange(self.width), length - 1)
            filled += range(line * self.width, line * self.width + length)
            first += length
        self.num_padding = cells.size - first
        is_full = filled == list(range(cells.size))
        self.cells = None if is_full else mx.array(cells.reshape(-1))
        self.filled = None if is_full else mx.array(filled)

    def _grid(self, seen: NDArray[np.bool_], lines: Sequence[int]) -> NDArray[np.bool_]:
        # (R, 1, T, L); lines of nobody see everything, so that no softmax is over nothing.
        if lines == list(range(self.num_lines)):
            return seen[:, None]
        grid = np.ones((self.num_lines, 1, *seen.shape[1:]), np.bool_)
        grid[lines, 0] = seen
        return grid

    def store(self, layer: int, keys: mx.array, values: mx.array) -> None:
        """The pool holds the part's keys and values, of the pass's (1, H, N, D)."""
        fresh = [each[0, :, self.span].transpose(1, 0, 2) for each in (keys, values)]
        self.pool.store(layer, self.at, *fresh)

    def held(self, layer: int) -> tuple[mx.array, mx.array]:
        """Keys and values (R, H, L, D) of the grid's rows."""
        return self.pool.held(layer, self.rows, self.top)

    def attend(self, layer: int, queries: mx.array, **options: Any) -> mx.array:
        """What the part's tokens read, (H, n, D), for the pass's queries (1, H, N, D)."""
        mine = queries[0, :, self.span]
        heads, _, size = mine.shape
        spread = mine if self.cells is None else mx.take(mine, self.cells, axis=1)
        grid = spread.reshape(heads, self.num_lines, self.width, size).transpose(1, 0, 2, 3)
        keys, values = self.held(layer)
        read = kernels.attention(grid, keys, values, mask=self.mask, **options)
        flat = read.transpose(1, 0, 2, 3).reshape(heads, -1, read.shape[-1])
        return flat if self.filled is None else mx.take(flat, self.filled, axis=1)


class Pass:
    """The parts of one pass, and its tokens and their positions (1, N) int32, part after part."""

    def __init__(self, parts: Sequence[tuple[Pool, Sequence[Share]]]) -> None:
        self.parts: list[Part] = []
        tokens: list[int] = []
        for pool, shares in parts:
            self.parts.append(Part(pool, shares, len(tokens)))
            tokens += [token for share in shares for token in share.tokens]
        self.tokens = mx.array([tokens])
        self.positions = mx.array([[position for part in self.parts for position in part.positions]])
        self.num_attended = 0  # layers that have attended by `PassCache.attend`

    @property
    def is_single(self) -> bool:
        """There is but one row, and any attention will do."""
        return len(self.parts) == 1 and self.parts[0].is_single

    @property
    def num_padding(self) -> int:
        """Cells of attention's grids that hold no token."""
        return sum(part.num_padding for part in self.parts)

    def caches(self, num_layers: int) -> list["PassCache"]:
        """One for each layer of the model."""
        return [PassCache(self, layer) for layer in range(num_layers)]


class PassCache:
    """A layer's part in a pass, behind the cache surface of mlx-lm's layers."""

    offset = 0  # positions are explicit

    def __init__(self, whole: Pass, layer: int) -> None:
        self._pass = whole
        self._layer = layer
        self._given: tuple[mx.array, mx.array]

    @property
    def is_single(self) -> bool:
        """The pass has but one row."""
        return self._pass.is_single

    def make_mask(self, *_: Any, **__: Any) -> mx.array | None:
        """The mask (T, L) bool of a single row, true where a query sees a key; None for more, whose `attend` has it."""
        return self._pass.parts[0].mask if self.is_single else None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Stores keys and values (1, H, N, D); all of a single row (1, H, L, D), the given ones for more rows."""
        for part in self._pass.parts:
            part.store(self._layer, keys, values)
        self._given = self._pass.parts[0].held(self._layer) if self.is_single else (keys, values)
        return self._given

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
        """What the queries (1, H, N, D) read, each of its own row; `options` are those of mx.fast's attention.

        Raises UnsupportedModel where the layer would attend to other keys or values than those it gave.
        """
        if keys is not self._given[0] or values is not self._given[1]:
            raise UnsupportedModel("its layers change what they fetch before they attend to it")
        self._pass.num_attended += 1
        if self.is_single:
            return kernels.attention(queries, keys, values, mask=self._pass.parts[0].mask, **options)
        read = [part.attend(self._layer, queries, **options) for part in self._pass.parts]
        return (read[0] if len(read) == 1 else mx.concatenate(read, axis=1))[None]

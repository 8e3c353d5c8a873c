"""Explicit positions for the rotary embeddings of unmodified mlx-lm models.

mlx-lm's layers call `self.rope(x, offset=cache.offset)`: one offset for a run of consecutive positions. A row that
holds source and target tokens has two runs, and `position_ids=` may ask for anything. So every rotary module is
wrapped; the wrapper looks at `Positions`, which all layers of a model share, and rotates each token by its own
position while any are set. Layers that rotate alike share the cosines and sines of a pass.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

_NAMES = ("rope", "rotary_emb", "rotary_embedding", "rotary")
_FEWEST_LOOKUP = 512  # positions
_PROBES = (0, 1, 5, 77, 300)  # positions at which modules are compared


Table: TypeAlias = tuple[mx.array, mx.array]
"""Cosines and signed sines (B, 1, T, D), a pair for each token."""


class RopeLayout(NamedTuple):
    """A module's pairing of the dimensions that it rotates, and a key that tells it from modules with other angles."""

    is_interleaved: bool  # neighbours are pairs; else one half's with the other half's
    angles: bytes


class Positions(threading.local):
    """The positions of the tokens in the pass that this thread computes: (B, T) int32, or None for consecutive ones."""

    def __reduce__(self) -> tuple[type["Positions"], tuple[()]]:
        return Positions, ()  # a deep copy of a model has positions of its own

    def __init__(self) -> None:
        self.ids: mx.array | None = None
        self._tables: dict[RopeLayout, Table] = {}
        self._modules: dict[RopeLayout, tuple[nn.Module, int]] = {}  # one of each, and the size of a head
        self._lookup: dict[RopeLayout, Table] = {}  # of the first positions
        self._num_lookup = 0  # of these positions

    @contextmanager
    def using(self, ids: mx.array | None, tables: Sequence[Table] = ()) -> Iterator[None]:
        """Set the positions within the block; `tables` are those that `tables` gave for them, if it was asked."""
        self.ids = ids
        self._tables.update(zip(self._modules, tables, strict=False))
        try:
            yield
        finally:
            self.ids = None
            self._tables.clear()

    def tables(self, ids: mx.array, last: int) -> list[Table]:
        """Return what the layers that have run so far will ask for at these positions (B, T) int32, the highest being
        `last`: looked up, as most were asked for before.
        """
        if last >= self._num_lookup:
            self._lookup.clear()
            self._num_lookup = max(_FEWEST_LOOKUP, 1 << last.bit_length())
        for layout, (rope, size) in self._modules.items():
            if layout not in self._lookup:
                self._lookup[layout] = _table(layout, rope, mx.arange(self._num_lookup)[None], size)
                mx.eval(self._lookup[layout])
        pairs = (self._lookup[layout] for layout in self._modules)
        return [(cosines[0, 0][ids][:, None], sines[0, 0][ids][:, None]) for cosines, sines in pairs]

    def table(self, layout: RopeLayout, rope: nn.Module, shape: tuple[int, ...]) -> Table:
        """Return the table of the pass's tokens, made by the first layer that asks."""
        if layout not in self._tables:
            rows, _, tokens, size = shape
            self._modules.setdefault(layout, (rope, size))
            self._tables[layout] = _table(layout, rope, mx.broadcast_to(self.ids, (rows, tokens)), size)  # type: ignore[arg-type]
        return self._tables[layout]


class PositionedRope(nn.Module):  # type: ignore[misc]  # untyped in mlx
    """A rotary module that takes a position for every token where `positions` holds some."""

    def __init__(self, rope: nn.Module, positions: Positions) -> None:
        super().__init__()
        self.inner = rope
        self._positions = positions
        self._layouts: dict[int, RopeLayout | None] = {}  # by the size of a head

    def __call__(self, x: mx.array, offset: Any = 0, **options: Any) -> mx.array:
        """Rotate `x` (B, H, T, D), of any float dtype."""
        ids = self._positions.ids
        if ids is None:
            plain: mx.array = self.inner(x, offset=offset, **options)
            return plain
        if x.dtype == mx.float32 and not options and (layout := self._layout(x.shape[-1])) is not None:
            cosines, sines = self._positions.table(layout, self.inner, x.shape)
            return x * cosines + _swapped(x, is_interleaved=layout.is_interleaved) * sines
        rows, heads, tokens, size = x.shape
        # Every token becomes a row of its own, because the rotary kernels take an offset per row.
        single = x.transpose(0, 2, 1, 3).reshape(rows * tokens, heads, 1, size)  # (B*T, H, 1, D)
        offsets = mx.broadcast_to(ids, (rows, tokens)).reshape(-1)
        rotated: mx.array = self.inner(single, offset=offsets, **options)
        return rotated.reshape(rows, tokens, heads, size).transpose(0, 2, 1, 3)  # (B, H, T, D)

    def _layout(self, size: int) -> RopeLayout | None:
        if size not in self._layouts:
            self._layouts[size] = _learn(self.inner, size)
        return self._layouts[size]


def _table(layout: RopeLayout, rope: nn.Module, ids: mx.array, size: int) -> Table:
    cosines, sines = _angles(rope, ids.reshape(-1), size, is_interleaved=layout.is_interleaved)
    shape = (ids.shape[0], 1, ids.shape[1], size)
    return cosines.reshape(shape), sines.reshape(shape)


def _learn(rope: nn.Module, size: int) -> RopeLayout | None:
    # How a module rotates, found by trying; None for one that does something else, such as leaving dimensions alone.
    probes = mx.array(_PROBES)
    x = mx.random.normal((len(_PROBES), 1, 1, size), key=mx.random.key(0))
    expected = rope(x, offset=probes)
    for is_interleaved in (False, True):
        cosines, sines = _angles(rope, probes, size, is_interleaved=is_interleaved)
        rotated = x * cosines + _swapped(x, is_interleaved=is_interleaved) * sines
        if float(mx.abs(rotated - expected).max()) < 1e-5:
            return RopeLayout(is_interleaved, np.array(mx.stack([cosines, sines])).tobytes())
    return None


def _angles(rope: nn.Module, ids: mx.array, size: int, *, is_interleaved: bool) -> tuple[mx.array, mx.array]:
    # Cosines, and sines with the sign that the swapped partner takes, (N, 1, 1, D): what it makes of pairs (1, 0).
    is_first = mx.arange(size) % 2 == 0 if is_interleaved else mx.arange(size) < size // 2
    rotated = rope(mx.broadcast_to(is_first.astype(mx.float32), (ids.size, 1, 1, size)), offset=ids)
    partner = _swapped(rotated, is_interleaved=is_interleaved)
    return mx.where(is_first, rotated, partner), mx.where(is_first, -partner, rotated)


def _swapped(x: mx.array, *, is_interleaved: bool) -> mx.array:
    # Every dimension has its partner's value.
    if is_interleaved:
        return x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
    half = x.shape[-1] // 2
    return mx.concatenate([x[..., half:], x[..., :half]], axis=-1)


def wrap(layers: list[nn.Module], positions: Positions) -> int:
    """Make the rotary modules of the layers take `positions`; return the number of layers that have one."""
    num_wrapped = 0
    for layer in layers:
        has_rope = False
        for _, module in layer.named_modules():
            for name in _NAMES:
                rope = module.get(name) if isinstance(module, nn.Module) else None
                if isinstance(rope, nn.Module) and not isinstance(module, PositionedRope):
                    # One that another StreamingModel of these layers has wrapped is wrapped again: it still works for
                    # both.
                    setattr(module, name, PositionedRope(rope, positions))
                    has_rope = True
        num_wrapped += has_rope
    return num_wrapped

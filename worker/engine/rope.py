"""Explicit positions for the rotary embeddings of unmodified mlx-lm models.

mlx-lm's layers call `self.rope(x, offset=cache.offset)`: one offset for a run of consecutive positions. A row that
holds source and target tokens has two runs, and `position_ids=` may ask for anything. So every rotary module is
wrapped; the wrapper looks at `Positions`, which all layers of a model share, and rotates each token by its own
position while any are set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

_NAMES = ("rope", "rotary_emb", "rotary_embedding", "rotary")


class Positions:
    """The positions of the tokens in the pass that is being computed: (B, T) int32, or None for consecutive ones."""

    def __init__(self) -> None:
        self.ids: mx.array | None = None

    @contextmanager
    def using(self, ids: mx.array | None) -> Iterator[None]:
        """Positions hold within the block."""
        self.ids = ids
        try:
            yield
        finally:
            self.ids = None


class PositionedRope(nn.Module):  # type: ignore[misc]  # untyped in mlx
    """A rotary module that takes a position for every token where `positions` holds some."""

    def __init__(self, rope: nn.Module, positions: Positions) -> None:
        super().__init__()
        self.inner = rope
        self._positions = positions

    def __call__(self, x: mx.array, offset: Any = 0, **options: Any) -> mx.array:
        """`x` rotated; (B, H, T, D), any float dtype, unchanged shape."""
        ids = self._positions.ids
        if ids is None:
            plain: mx.array = self.inner(x, offset=offset, **options)
            return plain
        rows, heads, tokens, size = x.shape
        # Every token becomes a row of its own, because an offset per row is what the rotary kernels know.
        single = x.transpose(0, 2, 1, 3).reshape(rows * tokens, heads, 1, size)  # (B*T, H, 1, D)
        each = mx.broadcast_to(ids, (rows, tokens)).reshape(-1)
        turned: mx.array = self.inner(single, offset=each, **options)
        return turned.reshape(rows, tokens, heads, size).transpose(0, 2, 1, 3)  # (B, H, T, D)


def wrap(layers: list[nn.Module], positions: Positions) -> int:
    """The number of layers whose rotary module now takes `positions`; the layers are changed in place."""
    wrapped = 0
    for layer in layers:
        found = False
        for _, module in layer.named_modules():
            for name in _NAMES:
                rope = module.get(name) if isinstance(module, nn.Module) else None
                if isinstance(rope, nn.Module) and not isinstance(module, PositionedRope):
                    # One that another StreamingModel of these layers has wrapped is wrapped again: it still works for
                    # both.
                    setattr(module, name, PositionedRope(rope, positions))
                    found = True
        wrapped += found
    return wrapped

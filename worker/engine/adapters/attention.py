"""Attention that tells the rows of a pass apart, in place of the function that mlx-lm's layers call by name."""

from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import scaled_dot_product_attention as plain

from worker.engine.adapters.rebinding import rebind
from worker.engine.batch import BatchCache


def apply_to(model: nn.Module) -> int:
    """Make the model's layers attend by `attend`, except those with their own attention; return how many do."""
    return rebind(model, plain, attend)


def attend(
    queries: mx.array, keys: mx.array, values: mx.array, cache: Any, scale: float, mask: Any = None, **options: Any
) -> mx.array:
    """Replace mlx-lm's attention function: (B, H, T, D); in a pass, each query sees only its own row."""
    if isinstance(cache, BatchCache):
        return cache.attend(queries, keys, values, scale=scale, **options)
    return cast(mx.array, plain(queries, keys, values, cache, scale=scale, mask=mask, **options))

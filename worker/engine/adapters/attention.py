"""Attention that tells the rows of a pass apart, in place of the one that mlx-lm's modules call by name."""

import sys
from typing import Any, Final, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import scaled_dot_product_attention as plain

from worker.engine.batch import BatchCache

_NAME: Final = "scaled_dot_product_attention"


def use_in(model: nn.Module) -> None:
    """The modules that the model's layers come from attend by `attend`; one with an attention of its own is left."""
    for name in {type(module).__module__ for module in model.modules()}:
        module = sys.modules[name]
        if getattr(module, _NAME, None) is plain:
            setattr(module, _NAME, attend)  # the same function to all but a pass


def attend(queries: mx.array, keys: mx.array, values: mx.array, cache: Any = None, **options: Any) -> mx.array:
    """What mlx-lm's function of that name gives: (B, H, T, D); in a pass, each query sees its own row."""
    if isinstance(cache, BatchCache):
        options.pop("mask")
        return cache.attend(queries, keys, values, **options)
    return cast(mx.array, plain(queries, keys, values, cache, **options))

"""The values of stored tensors, as arrays of floats or of mlx's own quantised form."""

from typing import Any

import numpy as np
from gguf.quants import dequantize as _dequantize

from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.reader import Tensor


def dequantize(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the tensor's values, float32 of its shape. Raises UnsupportedModel for an unknown type."""
    try:
        values: np.ndarray[Any, np.dtype[np.float32]] = _dequantize(tensor.read(), tensor.kind)
    except NotImplementedError as error:
        raise UnsupportedModel(
            f"{tensor.path} stores weights as {tensor.kind.name}, which the gguf package cannot turn into numbers; use "
            "another quantisation of the model, such as Q4_K_M, Q6_K or Q8_0"
        ) from error
    return values.reshape(tensor.shape)

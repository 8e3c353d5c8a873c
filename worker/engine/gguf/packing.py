"""Repacking quantised blocks of GGUF as mlx's own quantised weights, without another rounding of the codes.

A group of 32 weights is stored as codes q, and means scale · q + bias in both. Blocks by their definition in ggml, and
mlx's weights as `mx.quantize` gives them: codes as one stream of bits, the lowest first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import mlx.core as mx
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from worker.engine.gguf.reader import Tensor
from worker.engine.gguf.values import dequantize

GROUP_SIZE = 32  # weights that share a scale and a bias
_ROWS = 4096  # rows that are unpacked at once

Array: TypeAlias = np.ndarray[Any, Any]
Groups: TypeAlias = tuple[Array, Array, Array]
"""Codes (G, 32) uint8, scales (G, 1) and biases (G, 1) float32."""


class Packed(NamedTuple):
    """A matrix (R, C) in mlx's form: codes (R, C·bits/32) uint32, scales and biases (R, C/32) float32."""

    weight: mx.array
    scales: mx.array
    biases: mx.array
    bits: int


def pack(tensor: Tensor) -> Packed | None:
    """Return the matrix in mlx's form; None: it is not quantised, or its rows are not made of whole groups.

    Types whose groups have another size than mlx's, such as Q6_K, are rounded once more, to 8 bits.
    """
    if tensor.kind.name in ("F32", "F16", "BF16") or tensor.shape[-1] % GROUP_SIZE:
        return None
    if tensor.kind not in _BLOCKS:
        weight, scales, biases = mx.quantize(mx.array(dequantize(tensor)), group_size=GROUP_SIZE, bits=8)
        return Packed(weight, scales, biases, 8)
    bits, unpack = _BLOCKS[tensor.kind]
    size = GGML_QUANT_SIZES[tensor.kind][1]
    rows = tensor.read()
    parts = []
    for begin in range(0, len(rows), _ROWS):
        chunk = rows[begin : begin + _ROWS]
        codes, *numbers = unpack(chunk.reshape(-1, size))
        packed = _bits(codes, bits).reshape(len(chunk), -1).view(np.uint32)
        parts.append((packed, *(array.reshape(len(chunk), -1) for array in numbers)))
    weight, scales, biases = (mx.array(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
    return Packed(weight, scales, biases, bits)


def _bits(codes: Array, bits: int) -> Array:
    # (G, 32) codes to (G, 4·bits) bytes.
    if bits == 8:
        return codes
    if bits == 4:
        pairs: Array = codes[:, ::2] | codes[:, 1::2] << 4
        return pairs
    single = codes[..., None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(single.reshape(len(codes), -1), axis=1, bitorder="little")


def _halves(blocks: Array) -> Array:
    # (N, 2) bytes of a half-precision number to (N, 1) float32.
    return np.ascontiguousarray(blocks).view(np.float16).astype(np.float32)


def _nibbles(stored: Array) -> Array:
    # (N, 16) bytes to (N, 32) codes: the low halves, then the high ones.
    return np.concatenate([stored & 15, stored >> 4], axis=1)


def _q4_0(blocks: Array) -> Groups:
    scales = _halves(blocks[:, :2])
    return _nibbles(blocks[:, 2:]), scales, -8 * scales


def _q4_1(blocks: Array) -> Groups:
    return _nibbles(blocks[:, 4:]), _halves(blocks[:, :2]), _halves(blocks[:, 2:4])


def _fifth(stored: Array) -> Array:
    # (N, 4) bytes to (N, 32): the fifth bit of each code, in its place.
    return np.unpackbits(stored, axis=1, bitorder="little") << 4


def _q5_0(blocks: Array) -> Groups:
    scales = _halves(blocks[:, :2])
    return _nibbles(blocks[:, 6:]) | _fifth(blocks[:, 2:6]), scales, -16 * scales


def _q5_1(blocks: Array) -> Groups:
    codes = _nibbles(blocks[:, 8:]) | _fifth(blocks[:, 4:8])
    return codes, _halves(blocks[:, :2]), _halves(blocks[:, 2:4])


def _q8_0(blocks: Array) -> Groups:
    scales = _halves(blocks[:, :2])
    return blocks[:, 2:] ^ 0x80, scales, -128 * scales  # a signed byte and 128


def _k_scales(blocks: Array) -> tuple[Array, Array]:
    # Of eight groups: 6 bits each for scale and minimum, by which the block's two numbers are multiplied.
    low, high, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([low & 63, rest & 15 | low >> 6 << 4], axis=1)
    minima = np.concatenate([high & 63, rest >> 4 | high >> 6 << 4], axis=1)
    return (_halves(blocks[:, :2]) * scales).reshape(-1, 1), -(_halves(blocks[:, 2:4]) * minima).reshape(-1, 1)


def _k_nibbles(stored: Array) -> Array:
    # (N, 128) bytes to (N, 8, 32): the low halves of 32 bytes are one group, the high ones the next.
    quarters = stored.reshape(-1, 4, 1, GROUP_SIZE)
    return (quarters >> np.array([0, 4], np.uint8)[:, None] & 15).reshape(-1, 8, GROUP_SIZE)


def _q4_k(blocks: Array) -> Groups:
    return _k_nibbles(blocks[:, 16:]).reshape(-1, GROUP_SIZE), *_k_scales(blocks)


def _q5_k(blocks: Array) -> Groups:
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return (_k_nibbles(blocks[:, 48:]) | fifth << 4).reshape(-1, GROUP_SIZE), *_k_scales(blocks)


_BLOCKS: dict[GGMLQuantizationType, tuple[int, Callable[[Array], Groups]]] = {
    GGMLQuantizationType.Q4_0: (4, _q4_0),
    GGMLQuantizationType.Q4_1: (4, _q4_1),
    GGMLQuantizationType.Q5_0: (5, _q5_0),
    GGMLQuantizationType.Q5_1: (5, _q5_1),
    GGMLQuantizationType.Q8_0: (8, _q8_0),
    GGMLQuantizationType.Q4_K: (4, _q4_k),
    GGMLQuantizationType.Q5_K: (5, _q5_k),
}
"""Bits of a code, and how (N, bytes of a block) uint8 are unpacked."""

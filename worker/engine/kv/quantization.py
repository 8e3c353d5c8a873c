"""Storage of keys and values: unquantised, or quantised to 8 or 4 bits in groups.

A pass attends to the stored values, also for its own tokens. So batches, chunks and rebuilt lanes agree as well as they
do without quantisation.
"""

from collections.abc import Sequence
from typing import Final

import mlx.core as mx
import msgspec

from worker.engine.errors import UnsupportedModel

KV_BITS: Final = (8, 4)
_GROUPS: Final = (64, 32)  # numbers that share a scale; the more, the smaller and the coarser


class KVQuantization(msgspec.Struct, frozen=True):
    """A quantisation of keys and values: `bits` for each number, a scale and a bias for each `group_size` of them.

    0 bits: unquantised.
    """

    bits: int = 0
    group_size: int = 0

    def pack(self, keys: mx.array, values: mx.array) -> tuple[mx.array, ...]:
        """Pack keys and values (…, D) into arrays (…, any): one each, or packed numbers, scales and biases of each."""
        if not self.bits:
            return keys, values
        quantised = (mx.quantize(array, group_size=self.group_size, bits=self.bits) for array in (keys, values))
        return tuple(part for parts in quantised for part in parts)

    def unpack(self, arrays: Sequence[mx.array]) -> tuple[mx.array, mx.array]:
        """Return the packed keys and values (…, D); `arrays` are those of `pack`, or one slice of each."""
        half = len(arrays) // 2
        return self._unpack(arrays[:half]), self._unpack(arrays[half:])

    def _unpack(self, arrays: Sequence[mx.array]) -> mx.array:
        if not self.bits:
            return arrays[0]
        numbers, scales, biases = arrays
        return mx.dequantize(numbers, scales, biases, group_size=self.group_size, bits=self.bits)


def quantization(bits: int, head_sizes: Sequence[int], name: str) -> KVQuantization:
    """Choose groups for the model of that name, whose keys and values have these sizes; 0 bits: nothing is quantised.

    Raises ValueError for other bits than 0, 4, 8, UnsupportedModel for heads that no group fits into.
    """
    if not bits:
        return KVQuantization()
    if bits not in KV_BITS:
        raise ValueError(f"keys and values are kept in 8 or 4 bits, or 0: not quantised; got {bits}")
    group = next((group for group in _GROUPS if not any(size % group for size in head_sizes)), None)
    if group is None:
        sizes = " and ".join(map(str, sorted(set(head_sizes))))
        raise UnsupportedModel(
            f"{name} cannot have its keys and values quantised: its heads have {sizes} numbers, which groups of "
            f"{' or '.join(map(str, _GROUPS))} do not divide; leave out --kv-bits"
        )
    return KVQuantization(bits, group)

"""Quantised blocks in mlx's form: the same numbers as the gguf package makes of them."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from worker.engine.gguf.packing import GROUP_SIZE, pack
from worker.engine.gguf.reader import Tensor

SHAPE = (6, 512)
EXACT = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K")


def stored(path: Path, kind: GGMLQuantizationType) -> Tensor:
    """Random blocks of a type; every bit pattern of the codes, and scales that are ordinary numbers."""
    block, size = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(kind)
    blocks = rng.integers(0, 256, (SHAPE[0] * SHAPE[1] // block, size), dtype=np.uint8)
    half = rng.uniform(-0.1, 0.1, (len(blocks), 2)).astype(np.float16).view(np.uint8)
    at = -2 if kind.name == "Q6_K" else 0
    width = 4 if kind.name[-1] in "1K" and at == 0 else 2
    blocks[:, at : at + width or None] = half[:, :width]
    path.write_bytes(blocks.tobytes())
    return Tensor(path, 0, SHAPE, kind)


@pytest.mark.parametrize("name", [*EXACT, "Q6_K"])
def test_the_same_numbers(tmp_path: Path, name: str) -> None:
    """Exact but for the rounding of scales; what mlx has no groups for is near, in 8 bits."""
    kind = GGMLQuantizationType[name]
    tensor = stored(tmp_path / "blocks", kind)
    packed = pack(tensor)
    assert packed is not None
    found = mx.dequantize(packed.weight, packed.scales, packed.biases, group_size=GROUP_SIZE, bits=packed.bits)
    expected = dequantize(tensor.read(), kind).reshape(SHAPE)
    spread = float(np.abs(expected).max())
    tolerance = 1e-6 if name in EXACT else 2 / 255  # one step of 8 bits
    assert found.shape == SHAPE
    assert float(np.abs(np.array(found) - expected).max()) < tolerance * spread
    assert packed.bits == (int(name[1]) if name in EXACT else 8)


def test_floats_are_not_packed(tmp_path: Path) -> None:
    """Nor are rows of another length than groups have."""
    (tmp_path / "floats").write_bytes(bytes(4 * 64))
    for shape in ((2, 32), (4, 16)):
        assert pack(Tensor(tmp_path / "floats", 0, shape, GGMLQuantizationType.F32)) is None

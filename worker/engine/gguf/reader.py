"""GGUF files: metadata and tensors, versions 2 and 3, in one file or in parts.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from worker.engine.errors import UnsupportedModel
from worker.engine.files import check_file

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_HEAD_BYTES = 24  # magic, version, and the numbers of tensors and keys
_SCALARS = dict(enumerate(("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"))) | {10: "<u8", 11: "<i8", 12: "<f8"}
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


class Tensor(NamedTuple):
    """The place, type and shape of a tensor."""

    path: Path
    offset: int  # bytes from the start of the file
    shape: tuple[int, ...]  # rows first, as numpy has it; GGUF lists it the other way round
    kind: GGMLQuantizationType

    @property
    def num_bytes(self) -> int:
        """Its size in the file, in bytes."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size

    def read(self) -> np.ndarray[Any, Any]:
        """Read the stored bytes, (…, bytes of a row) uint8."""
        block, size = GGML_QUANT_SIZES[self.kind]
        stored = np.memmap(self.path, np.uint8, "r", self.offset, (self.num_bytes,))
        return stored.reshape(*self.shape[:-1], self.shape[-1] // block * size)


class Gguf(NamedTuple):
    """A model file: its metadata, and its tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of this architecture, such as `context_length` for `llama.context_length`."""
        return self.metadata.get(f"{self.metadata.get('general.architecture')}.{key}", default)


def read_gguf(path: Path) -> Gguf:
    """Read the metadata and tensors of a GGUF file; of all parts, if it is one of several.

    Raises UnsupportedModel for a file that is something else, cut short, or of another version or byte order.
    """
    match = _PART.fullmatch(path.name)
    if match is None:
        file = _read(path)
        if (num_parts := _whole(file, "split.count", 1)) > 1:
            raise UnsupportedModel(
                f"{path} is one of {num_parts} parts of a model, but its name does not tell which; "
                "give the parts their names back, such as model-00001-of-00003.gguf, and name the first"
            )
        return file
    stem, _, count = match.groups()
    paths = [path.with_name(f"{stem}-{number:05d}-of-{count}{SUFFIX}") for number in range(1, int(count) + 1)]
    if missing := [part.name for part in paths if not part.exists()]:
        raise UnsupportedModel(f"{path} is one of {int(count)} parts; beside it there is no {', '.join(missing)}")
    parts = [_read(part) for part in paths]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    expected = _whole(parts[0], "split.tensors.count", len(tensors))
    if len(tensors) != expected:
        raise UnsupportedModel(
            f"the parts of {path} hold {len(tensors)} tensors, expected {expected}; they belong to different models: "
            "download them again"
        )
    return Gguf(paths[0], parts[0].metadata, tensors)


def _read(path: Path) -> Gguf:
    size = path.stat().st_size
    with path.open("rb") as opened:
        _check_head(path, opened.read(_HEAD_BYTES))
    data = _Cursor(path, np.memmap(path, np.uint8, "r").data)
    data.skip(8)  # magic and version
    num_tensors, num_keys = data.number("<Q"), data.number("<Q")
    metadata = {data.string(): data.value(data.number("<I")) for _ in range(num_keys)}
    listed = [_tensor_info(data) for _ in range(num_tensors)]
    alignment = _whole(Gguf(path, metadata, {}), "general.alignment", 32)
    start = -(-data.position // alignment) * alignment
    tensors = {name: Tensor(path, start + offset, shape, kind) for name, offset, shape, kind in listed}
    end = max((tensor.offset + tensor.num_bytes for tensor in tensors.values()), default=start)
    if end > size:
        raise _cut_short(path, end, size)
    return Gguf(path, metadata, tensors)


def _whole(file: Gguf, key: str, default: int) -> int:
    value = file.metadata.get(key) or default
    if not isinstance(value, int) or value < 0:
        raise UnsupportedModel(f"{file.path}: {key} is {value!r}, expected a whole number; download it again")
    return value


def _check_head(path: Path, head: bytes) -> None:
    check_file(path)
    if not head.startswith(_MAGIC):
        raise UnsupportedModel(
            f"{path} is not a GGUF file: it begins with {head[:4]!r}, expected {_MAGIC!r}; name a .gguf file that "
            "llama.cpp can load, or the directory of an mlx-lm model"
        )
    if len(head) < _HEAD_BYTES:
        raise _cut_short(path, _HEAD_BYTES, len(head))
    little, big = (struct.unpack_from(order, head, 4)[0] for order in ("<I", ">I"))
    if big in _VERSIONS:
        raise UnsupportedModel(
            f"{path} is a big-endian GGUF file; turn it round with `gguf-convert-endian {path.name} little`, or "
            "download the little-endian one"
        )
    if little not in _VERSIONS:
        raise UnsupportedModel(
            f"{path} has GGUF version {little}, expected {' or '.join(map(str, _VERSIONS))}; convert the model anew "
            "with a current llama.cpp"
        )


def _cut_short(path: Path, expected: int, found: int) -> UnsupportedModel:
    return UnsupportedModel(
        f"{path} is cut short: it needs at least {expected:,} bytes and has {found:,}; download it again"
    )


def _tensor_info(data: "_Cursor") -> tuple[str, int, tuple[int, ...], GGMLQuantizationType]:
    name = data.string()
    shape = tuple(data.number("<Q") for _ in range(data.number("<I")))[::-1]
    number, offset = data.number("<I"), data.number("<Q")
    try:
        kind = GGMLQuantizationType(number)
        block = GGML_QUANT_SIZES[kind][0]
    except (ValueError, KeyError) as error:
        raise UnsupportedModel(
            f"{data.path}: tensor {name} has the type {number}, which the installed gguf package does not know; "
            "`pip install --upgrade gguf`, or use another quantisation of the model, such as Q4_K_M or Q8_0"
        ) from error
    if not shape or shape[-1] % block:
        raise UnsupportedModel(
            f"{data.path}: tensor {name} of shape {shape} is not made of blocks of {block}, as {kind.name} is; the "
            "file is broken: download it again"
        )
    return name, offset, shape, kind


class _Cursor:
    """The bytes of a file, read from front to back."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path = path
        self.position = 0
        self._data = data

    def skip(self, num_bytes: int) -> int:
        """Skip `num_bytes` and return where they began. Raises UnsupportedModel at the end of the file."""
        begin = self.position
        self.position += num_bytes
        if self.position > len(self._data):
            raise _cut_short(self.path, self.position, len(self._data))
        return begin

    def number(self, code: str) -> int:
        """Read a number in `struct`'s code."""
        found: int = struct.unpack_from(code, self._data, self.skip(struct.calcsize(code)))[0]
        return found

    def string(self) -> str:
        """Read a length and as many bytes of UTF-8."""
        size = self.number("<Q")
        begin = self.skip(size)
        try:
            return str(self._data[begin : begin + size], "utf-8")
        except UnicodeDecodeError as error:
            raise UnsupportedModel(f"{self.path} is broken at byte {begin:,} ({error}); download it again") from error

    def value(self, kind: int) -> Any:
        """Read a value of that kind: a number, a boolean, a string, or a list."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            return [self.value(inner) for _ in range(count)] if inner not in _SCALARS else self._scalars(inner, count)
        if kind in _SCALARS:
            return self._scalars(kind, 1)[0]
        raise UnsupportedModel(
            f"{self.path} is broken at byte {self.position:,}: there is no metadata of type {kind}; download it again"
        )

    def _scalars(self, kind: int, count: int) -> list[Any]:
        dtype = np.dtype(_SCALARS[kind])
        begin = self.skip(dtype.itemsize * count)
        values: list[Any] = np.frombuffer(self._data, dtype, count, begin).tolist()
        return values

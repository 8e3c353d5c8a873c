"""GGUF files that are whole, in parts, or broken."""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.gguf.writing import write
from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.reader import read_gguf

VALUES: dict[str, Any] = {
    "llama.context_length": 512,
    "llama.rope.freq_base": 10_000.0,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.tokens": ["a", "Ġb", "\u00e9"],
    "tokenizer.ggml.scores": [0.5, -1.0, 2.0],
    "tokenizer.chat_template": "{{ messages }}",
}
WEIGHTS = {"token_embd.weight": np.arange(64, dtype=np.float32).reshape(2, 32), "output_norm.weight": np.ones(5, "f4")}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every kind of metadata, and each tensor's values."""
    file = read_gguf(write(tmp_path / "m.gguf", "llama", VALUES, WEIGHTS))
    assert {**VALUES, "general.architecture": "llama"}.items() <= file.metadata.items()
    assert file.get("context_length") == 512
    assert file.get("block_count", 7) == 7
    for name, array in WEIGHTS.items():
        tensor = file.tensors[name]
        assert tensor.shape == array.shape
        assert np.array_equal(tensor.read().view(np.float32).reshape(array.shape), array)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a whole file."""
    return write(tmp_path_factory.mktemp("gguf") / "m.gguf", "llama", VALUES, WEIGHTS).read_bytes()


@given(share=st.floats(0, 1))
def test_a_file_cut_short_anywhere(tmp_path_factory: pytest.TempPathFactory, whole: bytes, share: float) -> None:
    """An error that names the file, or nothing if only padding is missing."""
    path = tmp_path_factory.getbasetemp() / "short.gguf"
    num_bytes = int(share * len(whole))
    path.write_bytes(whole[:num_bytes])
    try:
        file = read_gguf(path)
    except UnsupportedModel as error:
        said = str(error)
    else:
        said = "short.gguf is not cut short"
        assert num_bytes >= max(tensor.offset + tensor.num_bytes for tensor in file.tensors.values())
    assert re.search(r"short\.gguf.*(cut short|not a GGUF file)", said)


@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_broken_byte(tmp_path_factory: pytest.TempPathFactory, whole: bytes, position: int, value: int) -> None:
    """Either it reads as something, or an error names the file: no other exception, no endless list."""
    path = tmp_path_factory.getbasetemp() / "broken.gguf"
    path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
    said = "broken.gguf reads as something"
    try:
        read_gguf(path)
    except UnsupportedModel as error:
        said = str(error)
    assert "broken.gguf" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a GGUF file"),
        (b"\x08\0\0\0\0\0\0\0{broken}", r"not a GGUF file.*directory"),
        (b"GGUF\x03\0\0\0", "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), r"version 1, expected 2 or 3"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), r"version 9, expected 2 or 3"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 60), "cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 491400064\n", r"git lfs pull"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes, reason: str) -> None:
    """It is said what it is, and what to do."""
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel, match=rf"m\.gguf.*{reason}"):
        read_gguf(path)


def test_a_big_endian_file(tmp_path: Path) -> None:
    """It is refused with the program that turns it round."""
    path = write(tmp_path / "m.gguf", "llama", {"llama.context_length": 512}, WEIGHTS, big_endian=True)
    with pytest.raises(UnsupportedModel, match=r"m\.gguf is a big-endian.*gguf-convert-endian"):
        read_gguf(path)


@pytest.mark.parametrize("value", ["x", 2.5, [1, 2]])
@pytest.mark.parametrize("key", ["general.alignment", "split.count"])
def test_what_should_be_a_number(tmp_path: Path, key: str, value: Any) -> None:
    """A key that the reader itself needs, broken: it is named."""
    path = write(tmp_path / "m.gguf", "llama", {**VALUES, key: value}, WEIGHTS)
    with pytest.raises(UnsupportedModel, match=rf"m\.gguf: {key} is .*, expected a whole number"):
        read_gguf(path)


def test_an_unknown_type_of_tensor(tmp_path: Path, whole: bytes) -> None:
    """Newer than the installed gguf package."""
    name = b"output_norm.weight"
    at = whole.index(name) + len(name) + 4 + 8  # behind the number of dimensions and the one dimension
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[:at] + struct.pack("<I", 9999) + whole[at + 4 :])
    with pytest.raises(UnsupportedModel, match=r"m\.gguf: tensor output_norm\.weight has the type 9999.*gguf"):
        read_gguf(path)


def split(directory: Path) -> list[Path]:
    """A model in three files, as `llama-gguf-split` writes it."""
    writer = GGUFWriter(directory / "m.gguf", "llama", split_max_tensors=1)
    writer.add_uint32("llama.context_length", 512)
    for name, array in [*WEIGHTS.items(), ("output.weight", np.ones((2, 32), np.float32))]:
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(directory.glob("*.gguf"))


def test_a_model_in_parts(tmp_path: Path) -> None:
    """All parts are read, whichever is named; one that is missing is named, and one under another name explained."""
    parts = split(tmp_path)
    assert len(parts) == 3
    for part in parts:
        file = read_gguf(part)
        assert set(file.tensors) == {*WEIGHTS, "output.weight"}
        assert file.get("context_length") == 512
    renamed = parts[0].with_name("first.gguf")
    renamed.write_bytes(parts[0].read_bytes())
    with pytest.raises(UnsupportedModel, match=r"first\.gguf is one of 3 parts"):
        read_gguf(renamed)
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(UnsupportedModel, match="hold 2 tensors, expected 3"):
        read_gguf(parts[0])
    parts[1].unlink()
    with pytest.raises(UnsupportedModel, match=rf"no {parts[1].name}"):
        read_gguf(parts[2])

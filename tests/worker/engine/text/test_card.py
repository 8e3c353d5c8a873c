"""A model's card: the alignment heads that calibration writes, beside the model or in the user's cache directory."""

import json
import os
import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.worker.engine import tiny
from worker.engine.errors import UnsupportedModel
from worker.engine.text.card import read_card, write_alignment_heads
from worker.engine.text.card_cache import cached_card_file

HEADS = ((1, 2), (0, 3))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stock model's directory."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(tiny.config("qwen2")))
    return path


def test_beside_the_model(folder: Path, cache: Path) -> None:
    """The card is otherwise as before, also what only people read in it."""
    before = read_card(folder)
    assert write_alignment_heads(folder, HEADS) == folder / "decalage.json"
    assert read_card(folder).alignment_heads == HEADS
    assert read_card(folder).is_contiguous == before.is_contiguous
    (folder / "decalage.json").write_text('{"trained": true, "training": {"steps": 5}, "position_offset": 0}')
    write_alignment_heads(folder, HEADS)
    assert json.loads((folder / "decalage.json").read_text()) == {
        "trained": True, "training": {"steps": 5}, "position_offset": 0, "alignment_heads": [[1, 2], [0, 3]],
    }  # fmt: skip
    assert not cache.exists()


@pytest.mark.parametrize("kind", ["hub", "read-only", "file"])
def test_in_the_cache(folder: Path, cache: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the cache replaces what is beside the model; another file in the model's place has none of it."""
    path = folder
    if kind == "hub":
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder.parent))
    elif kind == "read-only":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        path = folder / "m.gguf"
        path.write_bytes(b"GGUF")
        path.with_suffix(".decalage.json").write_text('{"alignment_heads": [[0, 0]]}')
    file = write_alignment_heads(path, HEADS)
    assert file == cached_card_file(path)
    assert cache in file.parents
    assert read_card(path).alignment_heads == HEADS
    if kind == "file":
        path.write_bytes(b"GGUF, another one")
        assert read_card(path).alignment_heads == ((0, 0),)


def test_what_is_beside_the_model_is_newer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the directory can be written again."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        write_alignment_heads(folder, HEADS)
    write_alignment_heads(folder, HEADS[:1])
    assert read_card(folder).alignment_heads == HEADS[:1]


def test_a_broken_file_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    file = write_alignment_heads(folder, HEADS)
    file.write_text('{"alignment_heads": [[1, ')
    with pytest.raises(UnsupportedModel, match=re.escape(str(file)) + ".*decalage calibrate"):
        read_card(folder)

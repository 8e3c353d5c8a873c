"""A model's card: what tuning and calibration find is written beside the model or into the user's cache directory."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from protocol import DEFAULT_POLICY, Adaptive, AlignAtt
from tests.worker.engine import tiny
from worker.engine.errors import UnsupportedModel
from worker.engine.text.card import Card, read_card, write_findings
from worker.engine.text.card_cache import Findings, cached_card_file

HEADS = ((1, 2), (0, 3))
FOUND = Findings(alignment_heads=HEADS)
TUNED = Findings(policy=Adaptive(max_k=6), measured="20 BLEU")


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
    assert write_findings(folder, FOUND) == folder / "decalage.json"
    assert read_card(folder).alignment_heads == HEADS
    assert read_card(folder).is_contiguous == before.is_contiguous
    (folder / "decalage.json").write_text('{"trained": true, "training": {"steps": 5}, "position_offset": 0}')
    write_findings(folder, FOUND)
    assert json.loads((folder / "decalage.json").read_text()) == {
        "trained": True, "training": {"steps": 5}, "position_offset": 0, "alignment_heads": [[1, 2], [0, 3]],
    }  # fmt: skip
    assert not cache.exists()


def test_how_it_was_trained_is_for_readers_of_the_file(folder: Path) -> None:
    """Two models that are used alike have the same card: a draft model that of its model."""
    cards = []
    for entries in ({"trained": True}, {"trained": True, "training": {"steps": 5}}):
        (folder / "decalage.json").write_text(json.dumps(entries))
        cards.append(read_card(folder))
    assert cards[0] == cards[1]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"maximum_segment_words": 40}, "maximum_segment_words"),
        ({"max_segment_words": 0}, r"\$\.max_segment_words"),
        ({"position_offset": -1}, r"\$\.position_offset"),
        ({"layout": "grouped"}, "'grouped'"),
        ({"policy": {"type": "wait-k", "k": 0}}, r"\$\.policy\.k"),
        ({"prompt": {"source": {}, "end": "</s>", "target": "<t>"}}, r"\$\.prompt\.source"),
    ],
)
def test_an_entry_that_means_nothing(folder: Path, entry: dict[str, Any], reason: str) -> None:
    """A misspelt name or an impossible value: file and entry are named."""
    (folder / "decalage.json").write_text(json.dumps(entry))
    with pytest.raises(UnsupportedModel, match=rf"decalage\.json: .*{reason}.*correct that entry"):
        read_card(folder)


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
    file = write_findings(path, FOUND)
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
        write_findings(folder, FOUND)
    write_findings(folder, Findings(alignment_heads=HEADS[:1]))
    assert read_card(folder).alignment_heads == HEADS[:1]


@pytest.mark.parametrize("is_writable", [False, True])
def test_findings_of_both_commands_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, is_writable: bool) -> None:
    """In either order, also where the directory can be written only for the second of them."""
    for first, second in ((FOUND, TUNED), (TUNED, FOUND)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda *_: False)
            write_findings(folder, first)
        monkeypatch.setattr(os, "access", lambda *_: is_writable)
        write_findings(folder, second)
        card = read_card(folder)
        assert (card.alignment_heads, card.policy, card.measured) == (HEADS, TUNED.policy, TUNED.measured)
        assert cached_card_file(folder).exists() is not is_writable


def test_a_broken_file_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    file = write_findings(folder, FOUND)
    file.write_text('{"alignment_heads": [[1, ')
    with pytest.raises(UnsupportedModel, match=re.escape(str(file)) + ".*decalage calibrate"):
        read_card(folder)


def test_the_default_policy() -> None:
    """A stock model with known heads aligns; a policy that its card names goes before; a trained model waits."""
    heads, named = ((1, 2),), Adaptive()
    assert Card(alignment_heads=heads).default_policy == AlignAtt()
    assert Card().default_policy == DEFAULT_POLICY
    assert Card(alignment_heads=heads, trained=True).default_policy == DEFAULT_POLICY
    assert Card(alignment_heads=heads, policy=named).default_policy == named

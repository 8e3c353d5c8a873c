"""A pack gives back the pairs that were put in, a run from it is the run from the text, and a bad file is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.worker.training.corpus import TINY, Told, recipe, run
from tests.worker.training.pairs import Words, pair_of, texts
from tests.worker.training.test_train import losses
from worker.training import pack as packs
from worker.training.errors import PackError, TrainingError
from worker.training.export import write_weights
from worker.training.pack import FILE, read_pack, write_pack
from worker.training.pairs import MemoryCorpus, Pair
from worker.training.recipe import Recipe
from worker.training.sources import recipe_of_pack
from worker.training.train import pack

EMPTY = Recipe((), (), 1)


def corpus_of(pairs: list[Pair], weights: list[float]) -> MemoryCorpus:
    """A corpus of these pairs."""
    corpus = MemoryCorpus()
    for pair, weight in zip(pairs, weights, strict=True):
        corpus.add(pair, weight)
    return corpus


def same(one: Pair, other: Pair) -> bool:
    """Whether two pairs are equal in all their arrays."""
    arrays = ("source", "bounds", "target", "predicts")
    return one.num_given == other.num_given and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


@given(st.lists(st.tuples(texts(), texts(), st.sampled_from([0.25, 1.0, 3.0])), min_size=1, max_size=5), st.booleans())
def test_the_pairs_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Words, Words, float]], has_long_prompt: bool
) -> None:
    """Every pair, weight and length is what was packed, whatever the prompts."""
    answer = (4, 6, 7) if has_long_prompt else (4,)
    corpus = corpus_of([pair_of(one, two, answer=answer) for one, two, _ in rows], [row[2] for row in rows])
    directory = tmp_path_factory.mktemp("pack")
    write_pack(directory, corpus, corpus, recipe=EMPTY, reports=[], max_bytes=2**20)
    facts, train, valid = read_pack(directory)
    assert facts.recipe == EMPTY
    assert len(train) == len(valid) == len(rows)
    assert all(same(train[i], corpus[i]) for i in range(len(rows)))
    assert train.weights.tolist() == list(corpus.weights)
    assert np.array_equal(train.lengths(), corpus.lengths())
    assert train.max_segments == corpus.max_segments


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A directory with the pack of the toy rows."""
    pack(recipe(tmp_path), tmp_path / "packed", Told().append, max_bytes=2**20)
    return tmp_path / "packed"


@pytest.mark.parametrize("device", ["mlx", "cpu"])
def test_a_run_from_it_is_the_run_from_the_text(device: str, packed: Path, tmp_path: Path) -> None:
    """Same losses, same words; the directory is whole, and a stopped run goes on from it."""
    if device == "cpu":
        pytest.importorskip("torch")
    plan = replace(recipe_of_pack(packed), device=device, precision="fp32")
    parts = [*run(plan, tmp_path / "out", steps=4), *run(plan, tmp_path / "out", resume=True)]
    if device == "mlx":  # the two libraries draw other random weights
        assert losses(parts) == losses(run(recipe(tmp_path), tmp_path / "text"))
    assert losses(parts)[-1][0] == plan.steps
    for name in ("tokenizer.json", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (packed / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("device", ["mlx", "cpu"])
def test_it_brings_the_weights_to_start_from(device: str, tmp_path: Path) -> None:
    """The first loss is the one that the same start has without a pack."""
    if device == "cpu":
        pytest.importorskip("torch")
    run(recipe(tmp_path, steps=20, valid_every=99), tmp_path / "old")
    plan = recipe(tmp_path, start=str(tmp_path / "old"), steps=2)
    pack(plan, tmp_path / "packed", Told().append, max_bytes=2**20)
    options: dict[str, Any] = {"device": device, "precision": "fp32"}
    one = run(replace(plan, **options), tmp_path / "text")
    two = run(replace(recipe_of_pack(tmp_path / "packed"), **options), tmp_path / "out")
    assert losses(two)[0] == pytest.approx(losses(one)[0], abs=1e-5)


def test_it_trains_where_mlx_is_missing(packed: Path, tmp_path: Path) -> None:
    """The command runs with neither mlx nor transformers to import, and writes a model."""
    pytest.importorskip("torch")
    script = (
        "import sys\n"
        "for name in ('mlx', 'mlx_lm', 'transformers', 'tokenizers', 'huggingface_hub'): sys.modules[name] = None\n"
        "from worker.cli import main\n"
        f"sys.exit(main(['train', '--from-pack', {str(packed)!r}, '--device', 'cpu', '--steps', '2', '--json',"
        f" '--out', {str(tmp_path / 'out')!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_another_version(packed: Path) -> None:
    """The message tells both versions and what to do."""
    data = (packed / FILE).read_bytes()
    (packed / FILE).write_bytes(data.replace(b'"version":"1"', b'"version":"7"', 1))
    with pytest.raises(PackError, match=r"is a pack of version 7, this program reads 1; make it anew"):
        read_pack(packed)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_cut_short(size: int, packed: Path) -> None:
    """Wherever it is cut, the message tells that, and to copy it again."""
    (packed / FILE).write_bytes((packed / FILE).read_bytes()[:size])
    with pytest.raises(PackError, match=r"cut short.*copy it again"):
        read_pack(packed)


def test_damaged(packed: Path) -> None:
    """A flipped byte shows."""
    data = bytearray((packed / FILE).read_bytes())
    data[-3] ^= 1
    (packed / FILE).write_bytes(data)
    with pytest.raises(PackError, match=r"is damaged: .* another checksum"):
        read_pack(packed)


def test_none_there(tmp_path: Path) -> None:
    """The message names the command that makes one."""
    with pytest.raises(PackError, match=r"decalage train --pack"):
        read_pack(tmp_path)


def test_too_large(tmp_path: Path) -> None:
    """What would not travel is refused before it is written; the message tells how to make it smaller."""
    with pytest.raises(PackError, match="give large files a weight below 1"):
        pack(recipe(tmp_path), tmp_path / "packed", Told().append, max_bytes=100)
    assert not (tmp_path / "packed" / FILE).exists()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells it, and no part of a file stays."""

    def full(_: object, path: Path, *__: Any) -> None:
        path.write_bytes(b"half a f")
        raise OSError("No space left on device")

    monkeypatch.setattr(packs, "save_file", full)
    with pytest.raises(PackError, match=r"No space left on device.*free some space"):
        pack(recipe(tmp_path), tmp_path / "packed", Told().append, max_bytes=2**20)
    assert not list((tmp_path / "packed").glob("*pack*"))


def test_a_vocabulary_too_large(tmp_path: Path) -> None:
    """Two bytes hold 15 bits of a token."""
    pair = pair_of([[40_000]], [[8]])
    corpus = corpus_of([pair], [1.0])
    with pytest.raises(PackError, match=r"below 32,768, got 40,000"):
        write_pack(tmp_path, corpus, corpus, recipe=EMPTY, reports=[], max_bytes=2**20)


def test_a_directory_with_a_model_is_refused(packed: Path, tmp_path: Path) -> None:
    """A run from a pack never overwrites another."""
    plan = recipe_of_pack(packed)
    run(plan, tmp_path / "out", steps=1)
    with pytest.raises(TrainingError, match="already holds checkpoint"):
        run(plan, tmp_path / "out")


def test_weights_are_written_in_parts(tmp_path: Path) -> None:
    """No file is over the limit but for a single array; the index finds all; the bits are those of mlx's bf16."""
    random = np.random.default_rng(0)
    arrays = {f"w{i}": random.normal(size=(10, 20)).astype(np.float32) for i in range(5)}
    index = write_weights(tmp_path, arrays, max_shard_bytes=2**16 + 600)
    assert index.name == "model.safetensors.index.json"
    assert len(list(tmp_path.glob("model-*.safetensors"))) == 5
    found = weights_of(tmp_path)
    assert all(mx.array_equal(found[name], mx.array(array).astype(mx.bfloat16)) for name, array in arrays.items())


def weights_of(directory: Path) -> dict[str, mx.array]:
    """All arrays of a directory's files."""
    found: dict[str, mx.array] = {}
    for path in directory.glob("*.safetensors"):
        loaded: Any = mx.load(str(path))
        found |= loaded
    return found


def test_tiny_vocabularies_have_single_digits(packed: Path) -> None:
    """Each digit is a token, so that any number can be copied."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(packed / "tokenizer.json"))
    tokens = tokenizer.encode(" 4242", add_special_tokens=False).tokens
    assert tokens[-4:] == ["4", "2", "4", "2"]
    assert TINY.vocabulary >= len(tokenizer.get_vocab())

"""From a name to a model: what is found, and what is said where there is nothing to find."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from tests.worker.engine.conftest import TEMPLATE, chat_tokenizer
from tests.worker.engine.tiny import save
from worker.engine import loading
from worker.engine.errors import ModelNotFound, UnsupportedModel
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.text.config import read_max_positions


def test_the_shipped_model_says_what_it_is(starter: StreamingModel) -> None:
    """Its repr tells model, φ, type and device; on a CPU it computes in fp32."""
    text = repr(starter)
    assert "starter" in text
    assert "φ=0" in text
    if mx.default_device().type == mx.DeviceType.cpu:
        assert starter.dtype == mx.float32


def test_an_unknown_name_lists_the_shipped_models() -> None:
    """A name that is neither path nor hub id."""
    with pytest.raises(ModelNotFound, match=r"'no-such-model'.*starter"):
        loading.load("no-such-model")


@pytest.mark.parametrize("name", ["./no/such/dir", "/no/such", "~/no-such-model-here"])
def test_a_missing_path_is_no_hub_id(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like a path is not looked up on the network."""
    monkeypatch.setattr(loading, "hub_model", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(ModelNotFound, match="no model directory"):
        loading.load(name)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, r"holds no config\.json; expected an mlx-lm model directory"),
        ("{", r"config\.json cannot be read"),
        ("\ufeff{}", "without a byte order mark"),
        ("[]", "is not an object"),
        ("{}", "names no model_type"),
        ('{"model_type": "no_such_architecture"}', "mlx-lm cannot load .* no_such_architecture not supported"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "mlx-lm cannot load"),
    ],
)
def test_a_directory_that_is_no_model(tmp_path: Path, config: str | None, said: str) -> None:
    """No config, a broken one, one of an architecture that mlx-lm does not know or cannot build."""
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"a": mx.zeros(1)})
    if config is not None:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(UnsupportedModel, match=said):
        loading.load(str(tmp_path))


@pytest.mark.parametrize("positions", [None, 0, -1, "2048", True, 2.5, [512]])
@pytest.mark.parametrize("is_nested", [False, True])
def test_positions_that_are_no_number(tmp_path: Path, positions: object, is_nested: bool) -> None:
    """They are named with what is expected, also where the config of the text model is inside another."""
    save("llama", tmp_path, vocab_size=258)
    chat_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("max_position_embeddings")
    given = {"max_position_embeddings": positions}
    (tmp_path / "config.json").write_text(json.dumps(config | ({"text_config": given} if is_nested else given)))
    with pytest.raises(UnsupportedModel, match=r"max_position_embeddings .* in its config; expected how many tokens"):
        loading.load(str(tmp_path))


def test_positions_of_a_text_model_inside_another(tmp_path: Path) -> None:
    """Those are the ones that count; a config that tells none has 32,768."""
    for config, expected in (
        ({}, 32_768),
        ({"max_position_embeddings": 512.0}, 512),
        ({"text_config": {"max_position_embeddings": 300}, "vision_config": {"max_position_embeddings": 7}}, 300),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_max_positions(tmp_path) == expected


def test_a_window_that_is_in_use_bounds_the_positions(tmp_path: Path) -> None:
    """Configs tell of windows in several ways, and of some that no layer has."""
    windows = {"sliding_window": 100}
    gemma = {**windows, "model_type": "gemma3_text"}
    for config, expected in (
        (gemma, 100),
        ({"model_type": "gemma3", "text_config": gemma}, 100),
        ({**gemma, "max_position_embeddings": 80}, 80),
        ({**windows, "sliding_window_pattern": 4}, 100),
        ({**windows, "_sliding_window_pattern": 4}, 100),
        ({**windows, "layer_types": ["full_attention", "sliding_attention"]}, 100),
        ({**windows, "layer_types": ["full_attention"]}, 32_768),
        ({"model_type": "gemma3_text"}, 32_768),
        ({**windows, "model_type": "phi3"}, 32_768),
        ({"sliding_window": None, "layer_types": ["sliding_attention"]}, 32_768),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_max_positions(tmp_path) == expected, config


def test_a_window_that_the_config_does_not_tell(tmp_path: Path) -> None:
    """mlx-lm has a default for Gemma 3: nobody would know where a segment has to end."""
    save("gemma3_text", tmp_path, vocab_size=258, max_position_embeddings=600)
    chat_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sliding_window"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="sliding windows of 512 tokens, of which its config does not tell"):
        loading.load(str(tmp_path))


def test_broken_weights(tmp_path: Path) -> None:
    """A file that is no safetensors, and none at all."""
    save("llama", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(UnsupportedModel, match="mlx-lm cannot load"):
        loading.load(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=r"holds no weights .*; download the model again"):
        loading.load(str(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UnsupportedModel, match=r"holds no weights .*; convert pytorch_model.bin with `mlx_lm.convert"):
        loading.load(str(tmp_path))


@pytest.mark.parametrize("index", ['{"weight_map": {"a": "model-2.safetensors", "b": "model.safetensors"}}', "{", "[]"])
def test_an_index_of_more_than_there_is(tmp_path: Path, index: str) -> None:
    """A download that has stopped between two files, or in the index."""
    (save("llama", tmp_path) / "model.safetensors.index.json").write_text(index)
    with pytest.raises(
        UnsupportedModel, match=r"(lacks model-2\.safetensors|cannot be read).*download the model again"
    ):
        loading.load(str(tmp_path))


def test_folders_of_something_else(tmp_path: Path) -> None:
    """An adapter without its model, a folder around a model, a cache whose files are gone."""
    (tmp_path / "inner").mkdir()
    (save("llama", tmp_path / "inner") / "config.json").rename(tmp_path / "inner" / "config.json")
    with pytest.raises(UnsupportedModel, match=r"name a model directory in it \(inner\)"):
        loading.load(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match=r"it is an adapter: fuse it .*mlx_lm\.fuse"):
        loading.load(str(tmp_path))
    (tmp_path / "inner" / "model.safetensors").unlink()
    (tmp_path / "inner" / "model.safetensors").symlink_to("../blobs/1f")
    with pytest.raises(UnsupportedModel, match=r"model\.safetensors is a link to a file that is not there"):
        loading.load(str(tmp_path / "inner"))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"]
)
def test_a_pointer_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    """A repository cloned without Git LFS: the error says so, not that JSON is broken."""
    save("llama", tmp_path, vocab_size=258)
    chat_tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 9\n")
    with pytest.raises(UnsupportedModel, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        loading.load(str(tmp_path))


def test_weights_cut_short(tmp_path: Path) -> None:
    """An incomplete download is called that."""
    weights = save("llama", tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UnsupportedModel, match=r"mlx-lm cannot load.*incomplete download"):
        loading.load(str(tmp_path))


def test_a_folder_of_gguf_files(tmp_path: Path) -> None:
    """The files that could be meant are named; and a GGUF path that does not exist is no hub id."""
    (tmp_path / "m.Q8_0.gguf").touch()
    with pytest.raises(UnsupportedModel, match=r"name a GGUF file in it \(m\.Q8_0\.gguf\)"):
        loading.load(str(tmp_path))
    with pytest.raises(ModelNotFound, match="no model directory or GGUF file 'models/m\\.gguf'"):
        loading.load("models/m.gguf")


def test_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    """The weights are fine, the tokenizer is missing, or only its settings are there."""
    path = str(save("llama", tmp_path, vocab_size=258))
    chat_tokenizer().save_pretrained(path)
    (tmp_path / "tokenizer.json").unlink()
    for _ in range(2):
        with pytest.raises(UnsupportedModel, match=r"holds no tokenizer; expected tokenizer\.json"):
            loading.load(path)
        (tmp_path / "tokenizer_config.json").unlink(missing_ok=True)
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(UnsupportedModel, match=r"holds no usable tokenizer: .*; take its files"):
        loading.load(path)


@pytest.mark.parametrize("end", ["</s>", 2.5, True, [2, "x"], {"id": 2}])
def test_an_end_token_that_is_no_number(tmp_path: Path, end: object) -> None:
    """In the file that mlx-lm prefers."""
    path = str(save("llama", tmp_path, vocab_size=258))
    chat_tokenizer().save_pretrained(path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    with pytest.raises(UnsupportedModel, match=r"expected the id of a token, or a list of ids, as eos_token_id"):
        loading.load_vocabulary(path)


def test_a_prompt_of_tokens_that_the_model_lacks(tmp_path: Path) -> None:
    """Special tokens behind the embedding are fine until the template needs one: they would read as anything."""
    save("llama", tmp_path, vocab_size=258)
    tokenizer = chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|far|>"]})
    tokenizer.save_pretrained(tmp_path)
    model, loaded = loading.load(str(tmp_path))
    Runner(model, loading.load_vocabulary(str(tmp_path), loaded))
    (tmp_path / "chat_template.jinja").write_text("<|far|>" + TEMPLATE)
    model, loaded = loading.load(str(tmp_path))
    with pytest.raises(UnsupportedModel, match=r"holds the token 258 \('<\|far\|>'\), and the model embeds only 258"):
        Runner(model, loading.load_vocabulary(str(tmp_path), loaded))


@pytest.mark.parametrize("family", ["gpt2", "mamba", "jamba"])
def test_an_architecture_that_cannot_be_driven(tmp_path: Path, family: str) -> None:
    """It is refused when it is loaded, not when the first session meets it."""
    with pytest.raises(UnsupportedModel, match="Use a"):
        loading.load(str(save(family, tmp_path)))


def test_a_broken_card(tmp_path: Path) -> None:
    """A card of another shape is named with the path of what is wrong."""
    save("llama", tmp_path)
    (tmp_path / "decalage.json").write_text('{"position_offset": "far"}')
    with pytest.raises(UnsupportedModel, match=r"decalage\.json.*position_offset"):
        loading.load(str(tmp_path))


def test_a_stock_chat_model(tmp_path: Path) -> None:
    """A safe φ, all ends that its configs name, and the template's prompt."""
    save("llama", tmp_path, vocab_size=258)
    chat_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, 0]}))
    model, tokenizer = loading.load(str(tmp_path))
    assert model.position_offset == 256
    vocabulary = loading.load_vocabulary(str(tmp_path), tokenizer)
    assert vocabulary.eos_tokens == {257, 0}
    assert loading.load(str(tmp_path), position_offset=7)[0].position_offset == 7
    with pytest.raises(ValueError, match="position_offset"):
        loading.load(str(tmp_path), position_offset=-1)


def test_the_papers_checkpoints_have_group_positions(tmp_path: Path) -> None:
    """`…_stream` in the architecture is the mark of the authors' own models: φ = 0."""
    save("qwen2", tmp_path, vocab_size=258)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2ForCausalLM_stream"]}))
    chat_tokenizer().save_pretrained(tmp_path)
    assert loading.load(str(tmp_path))[0].position_offset == 0


def test_a_copy_of_the_shipped_model_is_a_model(tmp_path: Path, starter: StreamingModel) -> None:
    """The default model goes the same way as any directory."""
    shutil.copytree(loading.model_path("starter"), tmp_path / "copy")
    copy, _ = loading.load(str(tmp_path / "copy"))
    tokens = mx.array([[1, 300, 400]])
    assert mx.array_equal(copy(tokens), starter(tokens))

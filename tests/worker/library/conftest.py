"""The shipped model, a random one as in the documents, and a stock chat model, each made once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from transformers import PreTrainedTokenizerFast

from worker import Model, ModelArgs, StreamingModel, load
from worker.engine.loading import model_path
from worker.engine.text.tokenizer import Vocabulary
from worker.library.vocabulary import vocabulary_of

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def loaded() -> tuple[StreamingModel, TokenizerWrapper]:
    """The default model and its tokenizer."""
    return load()


@pytest.fixture(scope="session")
def model(loaded: tuple[StreamingModel, TokenizerWrapper]) -> StreamingModel:
    """The default model."""
    return loaded[0]


@pytest.fixture(scope="session")
def tokenizer(loaded: tuple[StreamingModel, TokenizerWrapper]) -> TokenizerWrapper:
    """The default model's tokenizer."""
    return loaded[1]


@pytest.fixture(scope="session")
def vocabulary(tokenizer: TokenizerWrapper) -> Vocabulary:
    """The default model's vocabulary."""
    return vocabulary_of(tokenizer)


@pytest.fixture(scope="session")
def shipped_path() -> str:
    """The directory of the default model."""
    return str(model_path())


@pytest.fixture(scope="session")
def random_model() -> StreamingModel:
    """A model built from ModelArgs, with the default model's number of tokens."""
    return Model(
        ModelArgs(
            model_type="qwen2",
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-6,
            vocab_size=16000,
        )
    )


@pytest.fixture(scope="session")
def stock_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock chat model: no card, no group positions, a chat template."""
    golden = Path(__file__).parents[2] / "golden" / "qwen2"
    path = tmp_path_factory.mktemp("stock") / "chat"
    shutil.copytree(golden, path, ignore=shutil.ignore_patterns("trajectories.json"))
    config = (path / "config.json").read_text(encoding="utf-8")
    (path / "config.json").write_text(config.replace("_stream", ""), encoding="utf-8")
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def stock(stock_path: Path) -> tuple[StreamingModel, TokenizerWrapper]:
    """The stock model and its tokenizer."""
    return load(str(stock_path))


@pytest.fixture(scope="session")
def untemplated() -> Any:
    """A tokenizer with neither a card nor a chat template."""
    return PreTrainedTokenizerFast.from_pretrained(Path(__file__).parents[2] / "golden" / "qwen2")

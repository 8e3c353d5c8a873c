"""A dual cache model of random weights: small enough for hundreds of sessions, large enough to tell what it saw.

Its tokenizer and card are those of the shipped model. Its translations are nonsense, but each token depends on the
whole lane, so that any lost, doubled or reordered token changes the words.
"""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

_SHIPPED: Final = Path(__file__).parents[2] / "worker" / "models" / "starter"
_SIZES: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
_SCALE: Final = 1.5  # of the random weights: large enough that the whole lane decides, not only the last token


def write_tiny_model(directory: Path) -> Path:
    """Write the model, the same one each time, and return the directory."""
    config = json.loads((_SHIPPED / "config.json").read_text()) | _SIZES
    for name in ("tokenizer.json", "tokenizer_config.json", "decalage.json"):
        shutil.copy(_SHIPPED / name, directory / name)
    (directory / "config.json").write_text(json.dumps(config))
    module = import_module(f"mlx_lm.models.{config['model_type']}")
    mx.random.seed(11)
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = tree_map(lambda array: array * _SCALE, model.parameters())
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), dict(tree_flatten(weights)))
    return directory

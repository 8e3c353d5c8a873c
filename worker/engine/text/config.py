"""A model's `config.json`, or the same settings from the metadata of a GGUF file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from worker.engine.errors import UnsupportedModel
from worker.engine.files import check_directory
from worker.engine.gguf.architectures import read_gguf_config

_POSITIONS: Final = "max_position_embeddings"
_WINDOW: Final = "sliding_window"
_DEFAULT_POSITIONS: Final = 32_768


def read_config(path: Path) -> dict[str, Any]:
    """Read the config.json of a model directory, or the same settings from a GGUF file.

    Raises UnsupportedModel where it is missing or broken.
    """
    if path.is_file():
        return read_gguf_config(path)
    check_directory(path)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(
            f"{path}/config.json cannot be read ({error}); expected JSON in UTF-8 without a byte order mark"
        ) from error
    if not isinstance(config, dict):
        raise UnsupportedModel(f"{path}/config.json is not an object; expected an mlx-lm model directory")
    return config


def read_max_positions(path: Path) -> int:
    """Read the number of positions that a model was made for, 32,768 where its config tells none, or the width of its
    sliding windows, where it has any and they are narrower.

    Raises UnsupportedModel for a value that is no such number.
    """
    config = read_config(path)
    inner = config.get("text_config")
    parts = [part for part in (config, inner) if isinstance(part, dict)]
    given = [_number_of_tokens(path, part, _POSITIONS) for part in parts if _POSITIONS in part]
    windows = [_number_of_tokens(path, part, _WINDOW) for part in parts if part.get(_WINDOW) and _slides(part)]
    positions = given[0] if given else _DEFAULT_POSITIONS
    return min([positions, *windows])


def _slides(config: Mapping[str, Any]) -> bool:
    # Whether mlx-lm's layers have the windows that the config tells of: many configs tell of some that nobody uses.
    layers = config.get("layer_types")
    is_listed = isinstance(layers, list) and "sliding_attention" in layers
    has_pattern = any(name.endswith("sliding_window_pattern") for name in config)
    return is_listed or has_pattern or str(config.get("model_type")).startswith("gemma3")


def _number_of_tokens(path: Path, config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnsupportedModel(
            f"{path} has the {name} {json.dumps(value)} in its config; expected how many tokens, "
            f"such as {_DEFAULT_POSITIONS}: take it from the model's page"
        )
    return value

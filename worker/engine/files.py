"""Checks of a model's files before a library reads them, for errors that name the remedy."""

import json
from pathlib import Path

from worker.engine.errors import UnsupportedModel

_LFS_POINTER = b"version https://git-lfs"
_WEIGHTS = "model*.safetensors"
_TOKENIZERS = ("tokenizer.json", "*.model", "*.tiktoken", "vocab.json", "vocab.txt", "tekken.json")
_AGAIN = "download the model again"


def check_directory(directory: Path) -> None:
    """Raise UnsupportedModel for a directory without a config.json, or with a Git LFS pointer or a dangling link in
    place of a file.
    """
    for path in sorted(directory.iterdir()):
        if not path.is_dir():
            check_file(path)
    if not (directory / "config.json").exists():
        raise UnsupportedModel(f"{directory} holds no config.json; {_guess(directory)}")


def check_weights(directory: Path) -> None:
    """Raise UnsupportedModel for a model directory without weights, or without some that its index names."""
    names = {path.name for path in directory.glob(_WEIGHTS)}
    if not names:
        others = sorted(path.name for pattern in ("*.bin", "*.pth", "*.pt") for path in directory.glob(pattern))
        remedy = f"convert {others[0]} with `mlx_lm.convert --hf-path {directory}`" if others else _AGAIN
        raise UnsupportedModel(f"{directory} holds no weights ({_WEIGHTS}); {remedy}")
    index = directory / "model.safetensors.index.json"
    if index.exists() and (missing := sorted(_indexed(index) - names)):
        raise UnsupportedModel(f"{directory} lacks {', '.join(missing[:3])}, which its {index.name} names; {_AGAIN}")


def check_tokenizer_files(directory: Path) -> None:
    """Raise UnsupportedModel for a model directory without the vocabulary of its tokenizer."""
    if not any(path for pattern in _TOKENIZERS for path in directory.glob(pattern)):
        raise UnsupportedModel(
            f"{directory} holds no tokenizer; expected tokenizer.json or tokenizer.model, from where the weights come "
            "from"
        )


def check_file(path: Path) -> None:
    """Raise UnsupportedModel for a Git LFS pointer, and a link to a file that is not there."""
    if path.is_symlink() and not path.exists():
        raise UnsupportedModel(f"{path} is a link to a file that is not there; {_AGAIN}")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UnsupportedModel(
                f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, or download "
                "the file again"
            )


def _guess(directory: Path) -> str:
    files = sorted(path.name for path in directory.glob("*.gguf"))
    if files:
        return f"name a GGUF file in it ({', '.join(files)})"
    if (directory / "adapter_config.json").exists():
        return "it is an adapter: fuse it with its base model by `mlx_lm.fuse`, and name what that writes"
    inner = sorted(path.parent.name for path in directory.glob("*/config.json"))
    if inner:
        return f"name a model directory in it ({', '.join(inner)})"
    return "expected an mlx-lm model directory: config.json, model.safetensors and tokenizer.json"


def _indexed(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{index} cannot be read ({type(error).__name__}: {error}); {_AGAIN}") from error

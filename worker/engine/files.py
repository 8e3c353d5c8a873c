"""Checks of a model's files before a library reads them, for errors that name the remedy."""

from pathlib import Path

from worker.engine.errors import UnsupportedModel

_LFS_POINTER = b"version https://git-lfs"
_LARGE_FILES = ("*.safetensors", "tokenizer.json", "tokenizer.model")


def check_directory(directory: Path) -> None:
    """Raise UnsupportedModel where a model directory holds only a Git LFS pointer in place of a file."""
    for pattern in _LARGE_FILES:
        for path in sorted(directory.glob(pattern)):
            check_file(path)


def check_file(path: Path) -> None:
    """Raise UnsupportedModel for a Git LFS pointer."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UnsupportedModel(
                f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, or download "
                "the file again"
            )

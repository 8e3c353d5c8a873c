"""Alignment heads of models whose own folder cannot hold them: a file for each model in the user's cache directory."""

import hashlib
import os
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from worker.engine.errors import UnsupportedModel

Heads: TypeAlias = tuple[tuple[int, int], ...]
"""(layer, head) of each alignment head."""

CACHE_VARIABLE: Final = "XDG_CACHE_HOME"


class _Cached(msgspec.Struct, frozen=True):
    alignment_heads: Heads


def cached_card_file(path: Path) -> Path:
    """Return the place for the heads of the model directory or GGUF file.

    The name tells the model's path and, of a file, its size: another model in its place has another name.
    """
    whole = path.resolve()
    size = whole.stat().st_size if whole.is_file() else 0
    digest = hashlib.sha256(f"{whole}\n{size}".encode(errors="surrogateescape")).hexdigest()[:16]
    base = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache")
    return base / "decalage" / "cards" / f"{whole.stem}-{digest}.json"


def read_cached_heads(path: Path) -> Heads:
    """Return the heads kept for that model; none where none are kept. Raises UnsupportedModel for a broken file."""
    file = cached_card_file(path)
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Cached).alignment_heads
    except FileNotFoundError:
        return ()
    except msgspec.DecodeError as error:
        raise UnsupportedModel(
            f"{file}: {error}; expected what `decalage calibrate` writes: run it again, or remove the file"
        ) from error


def write_cached_heads(path: Path, heads: Heads) -> Path:
    """Keep the heads of that model; return the file. Raises OSError."""
    file = cached_card_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(_Cached(heads)), indent=2))
    return file

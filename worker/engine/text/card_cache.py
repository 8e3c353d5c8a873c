"""What was found for models whose own folder cannot hold it: a file for each model in the user's cache directory."""

import hashlib
import os
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from protocol import Policy
from worker.engine.errors import UnsupportedModel

Heads: TypeAlias = tuple[tuple[int, int], ...]
"""(layer, head) of each alignment head."""

CACHE_VARIABLE: Final = "XDG_CACHE_HOME"


class Findings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The entries of a card that `decalage tune` and `decalage calibrate` find; None: not looked for."""

    policy: Policy | None = None
    measured: str | None = None
    alignment_heads: Heads | None = None


def cached_card_file(path: Path) -> Path:
    """Return the place for the findings about a model directory or GGUF file.

    The name tells the model's path and, of a file, its size: another model in its place has another name.
    """
    whole = path.resolve()
    size = whole.stat().st_size if whole.is_file() else 0
    digest = hashlib.sha256(f"{whole}\n{size}".encode(errors="surrogateescape")).hexdigest()[:16]
    base = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache")
    return base / "decalage" / "cards" / f"{whole.stem}-{digest}.json"


def read_cached_findings(path: Path) -> Findings:
    """Return what is kept for that model, if anything is. Raises UnsupportedModel for a broken file."""
    file = cached_card_file(path)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Findings)
    except FileNotFoundError:
        return Findings()
    except msgspec.DecodeError as error:
        raise UnsupportedModel(
            f"{file}: {error}; expected what `decalage tune` and `decalage calibrate` write: run them again, or remove "
            "the file"
        ) from error

"""Files that are whole under their name, or as they were before."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `path` and move it there once it is whole on the disk. Raises what `write` raises, OSError.

    A full disk or a kill leaves what had the name before.
    """
    new = path.with_name(f".new-{path.name}")
    try:
        write(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

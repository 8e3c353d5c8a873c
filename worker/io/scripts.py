"""The scripts of `worker/io/lua`, by name."""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

_LUA = Path(__file__).parent / "lua"


class Script(NamedTuple):
    """A script as EVAL and EVALSHA take it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The script with this text."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def script(name: str) -> Script:
    """A script; its head tells keys, arguments, result, and why it is one script."""
    return Script.of((_LUA / f"{name}.lua").read_text(encoding="utf-8"))

"""The scripts of `worker/io/lua`, by name."""

from functools import cache
from pathlib import Path

_LUA = Path(__file__).parent / "lua"


@cache
def script(name: str) -> str:
    """The text of a script; its head tells keys, arguments, result, and why it is one script."""
    return (_LUA / f"{name}.lua").read_text(encoding="utf-8")

"""How far a benchmark has come, on a terminal."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_T = TypeVar("_T")


def progress() -> Progress:
    """A bar for each task on stderr; nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def tracked(each: Sequence[_T], what: str) -> Iterator[_T]:
    """Each of them, counted by a bar."""
    with progress() as bar:
        yield from bar.track(each, description=what)

"""The progress bars of benchmarks."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_T = TypeVar("_T")


def progress() -> Progress:
    """Return bars on stderr, one for each task, disabled unless it is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def tracked(items: Sequence[_T], what: str) -> Iterator[_T]:
    """Yield each item, and count them with a bar."""
    with progress() as bar:
        yield from bar.track(items, description=what)

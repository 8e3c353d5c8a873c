"""How every benchmark looks: its tables, what it ran on, and a picture where one is wanted."""

import argparse
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from worker.commands import output


class Sheet(msgspec.Struct, frozen=True):
    """A table: names of columns, and rows of cells, the first of each its name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


class Plot(msgspec.Struct, frozen=True):
    """A picture: lines of points (x, y), and a level that they are held against."""

    x: str
    y: str
    lines: dict[str, tuple[tuple[float, float], ...]]
    level: tuple[str, float] | None = None
    has_log_x: bool = False  # ticks where points are, each twice or so the one before
    has_log_y: bool = False


class Page(msgspec.Struct, frozen=True):
    """All that people see of a report."""

    title: str
    sheets: tuple[Sheet, ...]
    notes: tuple[str, ...]
    plot: Plot | None = None


class Report(Protocol):
    """The figures of a benchmark, as `--json` prints them."""

    @property
    def machine(self) -> dict[str, Any]:
        """As `machine_facts` tells it."""


@contextmanager
def starting(args: argparse.Namespace) -> Iterator[None]:
    """A spinner while the block imports the engine. Raises ModuleNotFoundError where a picture is wanted and
    matplotlib missing: better now than after the measuring.
    """
    output.silence_libraries()
    with output.busy("Starting the engine"):
        importlib.import_module("worker.engine")  # loads a fast BLAS, which must come before mlx
        if getattr(args, "plot", None):
            importlib.import_module("worker.commands.bench.drawing")
        yield


def finish(args: argparse.Namespace, report: Report, page: Page) -> int:
    """Print the report as JSON or as tables and draw the picture where it is wanted; return 0."""
    if page.plot is not None and args.plot is not None:
        from worker.commands.bench.drawing import draw
        from worker.evaluation.records import write_whole

        write_whole(args.plot, draw(page.plot, page.title))
        output.note(f"The picture is in {args.plot}")
    if args.json:
        output.print_json_line(msgspec.to_builtins(report))
    else:
        show(page, report.machine)
    return 0


def show(page: Page, machine: dict[str, Any]) -> None:
    """All of it on stdout."""
    from rich.console import Console
    from rich.text import Text

    from worker.commands.bench.machine import machine_lines

    console = Console(highlight=False)
    console.print(Text(page.title))
    for sheet in page.sheets:
        console.print(_table(sheet))
    for line in (*page.notes, *machine_lines(machine)):
        console.print(Text(line, style="dim"), soft_wrap=True)


def _table(sheet: Sheet) -> Any:
    from rich.table import Table

    table = Table(title=sheet.title or None, title_justify="left")
    for i, name in enumerate(sheet.columns):
        table.add_column(name, justify="right" if i or _is_number(sheet.rows) else "left")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def _is_number(rows: Sequence[Sequence[str]]) -> bool:
    return all(row[0][:1].isdigit() for row in rows)

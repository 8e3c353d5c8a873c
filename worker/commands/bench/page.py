"""The output of every benchmark: its tables, its machine, and a picture on request."""

import argparse
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from worker.commands import output


class Sheet(msgspec.Struct, frozen=True):
    """A table: names of columns, and rows of cells, of which the first is the row's name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


class Plot(msgspec.Struct, frozen=True):
    """A picture: lines of points (x, y), and a level to compare them with."""

    x: str
    y: str
    lines: dict[str, tuple[tuple[float, float], ...]]
    level: tuple[str, float] | None = None
    has_log_x: bool = False  # with ticks at the points, without overlap
    has_log_y: bool = False


class Page(msgspec.Struct, frozen=True):
    """The form of a report for people."""

    title: str
    sheets: tuple[Sheet, ...]
    notes: tuple[str, ...]
    plot: Plot | None = None


class Report(Protocol):
    """The figures of a benchmark, as `--json` prints them."""

    @property
    def machine(self) -> dict[str, Any]:
        """The facts of `machine_facts`."""


@contextmanager
def starting(args: argparse.Namespace) -> Iterator[None]:
    """Show a spinner while the block imports the engine.

    Raises ModuleNotFoundError if `--plot` is given without matplotlib: better now than after the measurement.
    """
    output.silence_libraries()
    with output.busy("Starting the engine"):
        importlib.import_module("worker.engine")  # loads a fast BLAS, which must come before mlx
        if getattr(args, "plot", None):
            importlib.import_module("worker.commands.bench.drawing")
        yield


def finish(args: argparse.Namespace, report: Report, page: Page) -> int:
    """Draw the picture for `--plot`, and print the report as JSON or as tables; return 0."""
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
    """Print the page on stdout."""
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

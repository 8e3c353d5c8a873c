"""The output of `decalage compare`: the numbered source, a column for each k, then the full translations."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.commands.translation import Translation

_BORDER = 3  # columns around a cell
_NUMBER_STYLE = "cyan"


def show(translations: Mapping[int, Translation]) -> None:
    """Print all of it on stdout, no wider than the terminal (80 columns without one)."""
    console = Console(highlight=False)
    source_words = next(iter(translations.values())).task.source_words
    console.print(Text("Source words", style="bold"))
    console.print(*_numbered(source_words, console.width), sep="\n")
    console.print()
    for ks in _fitting(translations, console.width):
        console.print(_table({k: translations[k] for k in ks}))
    console.print(
        Text(f"The number before a word: how many of the {len(source_words)} source words had been read.", style="dim")
    )
    for k, translation in translations.items():
        lag = translation.average_lagging
        figures = "no words" if lag is None else f"average lagging {lag:.1f} words"
        console.print()
        console.print(Text.assemble((f"k = {k}", "bold"), (f"  {figures}", "dim")))
        console.print(Text(translation.text))


def _numbered(source_words: Sequence[str], width: int) -> list[Text]:
    """Break the numbered source into lines, never between a number and its word."""
    lines = [Text()]
    for number, word in enumerate(source_words, 1):
        item = Text.assemble((f"{number} ", _NUMBER_STYLE), word)
        if lines[-1] and lines[-1].cell_len + 2 + item.cell_len > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "").append_text(item)
    return lines


def _cells(translation: Translation) -> list[Text]:
    width = len(str(len(translation.task.source_words)))
    return [
        Text.assemble((f"{word.source_words_read:>{width}} ", _NUMBER_STYLE), word.word) for word in translation.words
    ]


def _fitting(translations: Mapping[int, Translation], width: int) -> list[list[int]]:
    """Split the ks into tables, as many columns in each as fit into the width, at least one."""
    tables: list[list[int]] = [[]]
    left = room = width - len(str(max(len(translation.words) for translation in translations.values()))) - _BORDER - 1
    for k, translation in translations.items():
        needed = max([cell.cell_len for cell in _cells(translation)] + [len(f"k = {k}")]) + _BORDER
        if tables[-1] and needed > left:
            tables.append([])
            left = room
        tables[-1].append(k)
        left -= needed
    return tables


def _table(translations: Mapping[int, Translation]) -> Table:
    table = Table()
    table.add_column("", justify="right", style="dim")
    columns = []
    for k, translation in translations.items():
        table.add_column(f"k = {k}")
        columns.append(_cells(translation))
    for row in range(max(map(len, columns))):
        table.add_row(str(row + 1), *(column[row] if row < len(column) else "" for column in columns))
    return table

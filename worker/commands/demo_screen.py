"""The demo on a terminal, rendered by rich: the live screen, and the lines that remain after it."""

from collections.abc import Iterator

import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from protocol import OutputTextDelta
from worker.commands.demo_report import Place, figures, header
from worker.commands.demo_view import Sentence, Summary, View, join_words, lag_words
from worker.core.words import separator

_SUBSCRIPTS = str.maketrans("-0123456789", "₋₀₁₂₃₄₅₆₇₈₉")
_UNREAD = "dim"
_READ = "bold"
_SPOKEN = "dim"  # the source of a finished sentence, less prominent than its translation
_TARGET = "bold green"
_LAG = "cyan"
_BIG_LAG = "yellow"
_NAME = "dim"


class Screen(msgspec.Struct, frozen=True):
    """The full screen: header, the finished sentences that fit, the current pair, a line of figures."""

    place: Place
    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        inner = options.update(height=None)
        bottom = console.render_lines(self._bottom(), inner)
        top = console.render_lines(heading(self.place, self.view), inner)
        top = top if len(top) + len(bottom) < height else []
        middle = self._middle(console, inner, height - len(top) - len(bottom))
        for line in (*top, *middle, *bottom[-height:]):
            yield from line
            yield Segment.line()

    def _middle(self, console: Console, options: ConsoleOptions, num_lines: int) -> list[list[Segment]]:
        # The newest pairs that fit completely, from the last one upwards.
        lines: list[list[Segment]] = []
        for sentence in reversed(self.view.finished):
            pair = console.render_lines(finished_pair(sentence), options)
            if len(pair) + len(lines) > num_lines:
                break
            lines = pair + lines
        return lines

    def _bottom(self) -> RenderableType:
        sentence = self.view.sentences[self.view.current]
        pair = source_line(sentence), target_line(sentence, self.place.max_lag_words)
        return Group(*pair, Text(), status_line(self.view), legend())


def heading(place: Place, view: View) -> RenderableType:
    """Render the lines above the talk: its options, its address, and how to watch it from another terminal."""
    table = _grid(header(place, view))
    line = Text(place.redis_line, style="cyan", overflow="fold")
    return Group(table, line, Text())


def finished_pair(sentence: Sentence) -> RenderableType:
    """Render a finished sentence: source, translation with its average lagging, and an empty line."""
    lag = sentence.done.average_lagging if sentence.done else None
    target = Text(sentence.translation, style=_TARGET)
    if lag is not None:
        target.append(f"  AL {lag:.1f}", style=f"not bold {_LAG}")
    return Group(Text(join_words(sentence.spoken), style=_SPOKEN), target, Text())


def source_line(sentence: Sentence) -> Text:
    """Render the words spoken so far: those already read stand out, an ellipsis marks an unfinished sentence."""
    line = Text()
    for index, word in enumerate(sentence.spoken):
        line.append(separator(line.plain[-1:], word))
        line.append(word, style=_READ if index < sentence.num_read_words else _UNREAD)
    if not sentence.is_whole:
        line.append(" …", style=_UNREAD)
    return line


def target_line(sentence: Sentence, max_lag_words: int) -> Text:
    """Render the words written so far, each with its lag as a small number; a lag over `max_lag_words` stands out."""
    line = Text()
    for word in sentence.target:
        _append(line, word, max_lag_words)
    return line if line.plain else Text(" ")


def _append(line: Text, word: OutputTextDelta, max_lag_words: int) -> None:
    lag = lag_words(word)
    stem = word.text.rstrip()
    line.append(stem, style=_TARGET)
    line.append(str(lag).translate(_SUBSCRIPTS), style=_BIG_LAG if lag > max_lag_words else _LAG)
    line.append(word.text[len(stem) :])


def status_line(view: View) -> Text:
    """Render the progress of the talk in one line."""
    num_words = sum(len(sentence.words) for sentence in view.sentences)
    parts = [f"{view.num_source_words} of {num_words} words spoken", f"{len(view.heard)} written"]
    if view.heard:
        parts.append(f"the last {view.heard[-1].delay_ms} ms after the last word it needed")
    return Text(" · ".join(parts), style=_NAME, no_wrap=True, overflow="ellipsis")


def legend() -> Text:
    """Render the meaning of the small numbers."""
    meaning = " lag: how many source words ahead the worker had read when it wrote the word"
    return Text.assemble(("₃", _LAG), (meaning, _NAME), no_wrap=True, overflow="ellipsis")


def ending(summary: Summary, pace_words_per_s: float) -> RenderableType:
    """Render the figures of the talk."""
    return _grid(figures(summary, pace_words_per_s))


def _grid(rows: Iterator[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=_NAME, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, Text(value))
    return grid

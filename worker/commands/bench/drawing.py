"""The picture of a benchmark, drawn by matplotlib."""

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from worker.commands.bench.page import Plot
from worker.evaluation.picture import COLOURS, MARKERS, as_png, empty_picture

_MANY = 40  # lines with more points are drawn without markers


def draw(plot: Plot, title: str) -> bytes:
    """Draw the plot; return a PNG."""
    figure, axes = empty_picture(title, plot.x, plot.y)
    for i, (name, points) in enumerate(plot.lines.items()):
        xs, ys = zip(*points, strict=True)
        marker = MARKERS[i % len(MARKERS)] if len(points) <= _MANY else ""
        axes.plot(xs, ys, color=COLOURS[i % len(COLOURS)], marker=marker, label=name)
    if plot.level is not None:
        name, y = plot.level
        axes.axhline(y, color="#666666", linestyle="--", linewidth=1, label=name)
    _scale(axes, plot)
    return as_png(figure)


def _scale(axes: Axes, plot: Plot) -> None:
    if plot.has_log_x:
        axes.set_xscale("log")
        axes.set_xticks(_ticks(plot))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if plot.has_log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])


def _ticks(plot: Plot) -> list[float]:
    ticks: list[float] = []
    for x in sorted({x for points in plot.lines.values() for x, _ in points}):
        if not ticks or x > 1.25 * ticks[-1]:  # labels of closer ticks would overlap
            ticks.append(x)
    return ticks

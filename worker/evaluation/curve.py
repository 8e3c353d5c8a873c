"""The latency-quality curve of any number of systems, as a picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import msgspec
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Colours that stay apart for colour-blind eyes (Okabe and Ito 2008), each with a marker of its own.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class Point(msgspec.Struct, frozen=True):
    """A policy of a system: its lag in source words, its BLEU, and what stands beside the point."""

    lag_words: float
    bleu: float
    label: str


class Curve(msgspec.Struct, frozen=True):
    """A system: its streaming policies, and the BLEU that it reaches with the whole source read; None: not known."""

    points: Sequence[Point]
    offline_bleu: float | None = None


def draw_curves(curves: Mapping[str, Curve], *, title: str = "") -> bytes:
    """A PNG with a line for each system: BLEU over average lagging, and offline BLEU as a dashed line.

    Raises ValueError where there is nothing to draw.
    """
    if not any(curve.points or curve.offline_bleu is not None for curve in curves.values()):
        raise ValueError("expected at least one point or offline score to draw, got none")
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for i, (name, curve) in enumerate(curves.items()):
        _draw(axes, name, curve, i)
    axes.set_xlabel("average lagging (source words)")
    axes.set_ylabel("BLEU")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08, y=0.12)
    axes.legend(frameon=False, loc="best", fontsize="small")
    png = BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


def _draw(axes: Axes, name: str, curve: Curve, index: int) -> None:
    colour = _COLOURS[index % len(_COLOURS)]
    if curve.points:
        points = sorted(curve.points, key=lambda point: point.lag_words)
        lags, bleus = [point.lag_words for point in points], [point.bleu for point in points]
        axes.plot(lags, bleus, color=colour, marker=_MARKERS[index % len(_MARKERS)], label=name)
        for point in points:
            axes.annotate(
                point.label,
                (point.lag_words, point.bleu),
                xytext=(5, -11),
                textcoords="offset points",
                color=colour,
                fontsize="small",
            )
    if curve.offline_bleu is not None:
        axes.axhline(curve.offline_bleu, color=colour, linestyle="--", linewidth=1, label=f"{name}, offline")

"""The latency-quality curve of any number of systems, as a picture."""

from collections.abc import Mapping, Sequence

import msgspec
from matplotlib.axes import Axes

from worker.evaluation.picture import COLOURS, MARKERS, as_png, empty_picture


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
    figure, axes = empty_picture(title, "average lagging (source words)", "BLEU")
    for i, (name, curve) in enumerate(curves.items()):
        _draw(axes, name, curve, i)
    axes.margins(x=0.08, y=0.12)
    return as_png(figure)


def _draw(axes: Axes, name: str, curve: Curve, index: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    if curve.points:
        points = sorted(curve.points, key=lambda point: point.lag_words)
        lags, bleus = [point.lag_words for point in points], [point.bleu for point in points]
        axes.plot(lags, bleus, color=colour, marker=MARKERS[index % len(MARKERS)], label=name)
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

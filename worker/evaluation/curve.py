"""The latency-quality curve of any number of systems, as a picture."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from matplotlib.axes import Axes

from worker.evaluation.picture import COLOURS, MARKERS, as_png, empty_picture


class Point(msgspec.Struct, frozen=True):
    """A policy of a system: its lag in source words, its BLEU, and the label of the point."""

    lag_words: float
    bleu: float
    label: str

    @property
    def family(self) -> str:
        """The label without its numbers: points of one family share a line.

        >>> Point(3.0, 30.6, "wait-3").family, Point(3.4, 31.0, "adaptive-2-7-0.7").family
        ('wait', 'adaptive')
        """
        return re.sub(r"[-~]?[0-9.]+", "", self.label)


class Curve(msgspec.Struct, frozen=True):
    """A system: its streaming policies, and its BLEU with the whole source read; None: not known."""

    points: Sequence[Point]
    offline_bleu: float | None = None


def draw_curves(curves: Mapping[str, Curve], *, title: str = "") -> bytes:
    """Draw BLEU over average lagging, with a line for each system and family, offline BLEU dashed. Return a PNG.

    Raises ValueError where there is no point to draw.
    """
    if not any(curve.points or curve.offline_bleu is not None for curve in curves.values()):
        raise ValueError("expected at least one point or offline score to draw, got none")
    figure, axes = empty_picture(title, "average lagging (source words)", "BLEU")
    for i, (name, curve) in enumerate(curves.items()):
        _draw(axes, name, curve, i)
    axes.margins(x=0.08, y=0.12)
    return as_png(figure)


def _draw(axes: Axes, name: str, curve: Curve, index: int) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    families: dict[str, list[Point]] = {}
    for point in sorted(curve.points, key=lambda point: (point.lag_words, point.label)):
        families.setdefault(point.family, []).append(point)
    for i, family in enumerate(sorted(families, key=lambda family: (-len(families[family]), family))):
        style: dict[str, Any] = {"linestyle": ":", "markerfacecolor": "white"} if i else {}
        lags, bleus = zip(*((point.lag_words, point.bleu) for point in families[family]), strict=True)
        axes.plot(lags, bleus, color=colour, marker=marker, label=f"{name}, {family}" if i else name, **style)
        # Below, to the right or to the left: lines rise, and the labels of two that meet stay readable.
        place: dict[str, Any] = {"xytext": (-7, -2), "ha": "right"} if i else {"xytext": (5, -11)}
        for point in families[family]:
            at = (point.lag_words, point.bleu)
            axes.annotate(point.label, at, textcoords="offset points", color=colour, fontsize="small", **place)
    if curve.offline_bleu is not None:
        axes.axhline(curve.offline_bleu, color=colour, linestyle="--", linewidth=1, label=f"{name}, offline")

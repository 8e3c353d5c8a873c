"""Size, colours and axes of all pictures."""

from io import BytesIO
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind readers can tell apart (Okabe and Ito 2008)."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""One marker for each colour."""


def empty_picture(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """Return an empty figure of 1080 × 690 pixels with one pair of axes, titled and labelled."""
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def as_png(figure: Figure) -> bytes:
    """Return the figure as a PNG, with a legend of the labelled lines."""
    for axes in figure.axes:
        axes.legend(frameon=False, loc="best", fontsize="small")
    png = BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()

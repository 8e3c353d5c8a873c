"""What all pictures have in common."""

import pytest

from tests.worker.evaluation.test_curve import pixels
from worker.evaluation.picture import COLOURS, MARKERS, as_png, empty_picture


def test_each_colour_has_a_marker() -> None:
    """So that a line can be told without colours."""
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(COLOURS)


@pytest.mark.parametrize("title", ["", "a title"])
def test_all_pictures_have_one_size(title: str) -> None:
    """With a title and without."""
    figure, axes = empty_picture(title, "x", "y")
    axes.plot([1, 2], [3, 4], label="a line")
    assert pixels(as_png(figure)) == (1080, 690)

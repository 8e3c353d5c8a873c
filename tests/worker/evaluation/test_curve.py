"""The latency-quality curve."""

import struct
import zlib

import pytest

from worker.evaluation.curve import Curve, Point, draw_curves

POINTS = (Point(1.4, 20.5, "wait-1"), Point(3.1, 30.6, "wait-3"), Point(4.6, 31.0, "wait-5"))


def pixels(png: bytes) -> tuple[int, int]:
    """Width and height, of a picture whose data is whole."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    assert len(zlib.decompress(data)) == height * (1 + 4 * width)
    return int(width), int(height)


@pytest.mark.parametrize("num_systems", [1, 2, 12])
def test_any_number_of_systems_makes_one_picture(num_systems: int) -> None:
    """Of the same size; each system adds something to it."""
    curves = {
        f"system {i}": Curve([Point(p.lag_words, p.bleu + i, p.label) for p in POINTS], 32.0 + i)
        for i in range(num_systems)
    }
    png = draw_curves(curves, title="talks, 300 sentences")
    assert pixels(png) == (1080, 690)
    del curves["system 0"]
    assert not curves or draw_curves(curves, title="talks, 300 sentences") != png


def test_the_order_of_points_makes_no_difference() -> None:
    """A line goes from low latency to high."""
    assert draw_curves({"a": Curve(POINTS)}) == draw_curves({"a": Curve(POINTS[::-1])})


def test_each_policy_has_a_line_of_its_own() -> None:
    """Adaptive policies between those of wait-k do not bend its line."""
    adaptive = Point(2.3, 19.0, "adaptive-1-7-0.5")
    assert {point.family for point in (*POINTS, adaptive)} == {"wait", "adaptive"}
    same_place = Point(adaptive.lag_words, adaptive.bleu, "wait-2")
    assert draw_curves({"a": Curve((*POINTS, adaptive))}) != draw_curves({"a": Curve((*POINTS, same_place))})


def test_a_system_may_have_one_kind_of_score() -> None:
    """Points alone or offline alone."""
    assert draw_curves({"a": Curve(POINTS)}) != draw_curves({"a": Curve((), 31.8)})


def test_nothing_makes_no_picture() -> None:
    """Not even an empty one."""
    with pytest.raises(ValueError, match="got none"):
        draw_curves({"a": Curve(())})

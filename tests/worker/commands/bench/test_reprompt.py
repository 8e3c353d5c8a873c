"""`decalage bench reprompt`."""

from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels

pytestmark = pytest.mark.usefixtures("with_model")


def test_a_word_behind_a_long_text(decalage: Decalage, text: str, tmp_path: Path) -> None:
    """At each length both costs; lengths beyond the model's segments are marked."""
    picture = tmp_path / "reprompt.png"
    options = ("bench", "reprompt", "--at", "150", "5", "--words", "2", "--file", text)
    report = decalage(*options, "--plot", str(picture), "--json").json
    short, long = report["points"]
    assert (short["source_words"], long["source_words"]) == (5, 150)
    assert (short["is_beyond"], long["is_beyond"]) == (False, True)
    assert 100 < short["tokens"] * 10 < long["tokens"] * 2
    for point in (short, long):
        assert point["ratio"] == pytest.approx(point["reprompt_ms"] / point["dual_ms"], abs=0.02)
        assert 1 <= point["passes_per_word"] < 4
    assert pixels(picture.read_bytes()) == (1080, 690)


@pytest.mark.parametrize("is_random", [False, True])
def test_the_table(is_random: bool, decalage: Decalage, text: str, tiny_shape: str) -> None:
    """It tells whose words they are where a text is longer than the model could take, or the weights are random."""
    shape = ("--shape", tiny_shape) if is_random else ()
    out = decalage("bench", "reprompt", "--at", "121", "--words", "1", "--file", text, *shape).out
    assert ("121*" in out) is ("* Longer than the 120 words" in out) is not is_random
    assert ("Random weights: the words are those that the shipped model wrote" in out) is is_random


def test_before_the_first_word_there_is_no_cost(decalage: Decalage) -> None:
    """At wait-7, nothing is written behind 5 source words."""
    ran = decalage("bench", "reprompt", "--at", "5", "--wait-k", "7", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "invalid_input")
    assert "at least k = 7 words, got 5" in ran.err

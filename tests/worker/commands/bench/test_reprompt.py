"""`decalage bench reprompt`."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels
from worker.commands.translation import Model

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


@pytest.mark.parametrize("layout", ["group", "contiguous"])
def test_many_sessions(layout: str, decalage: Decalage, text: str, tiny_shape: str) -> None:
    """They share the passes of one; what the baseline is prompted with is the same text in both layouts."""
    options = ("bench", "reprompt", "--at", "30", "--words", "2", "--file", text, "--shape", tiny_shape)
    one, three = (decalage(*options, "--layout", layout, "--sessions", number, "--json").json for number in ("1", "3"))
    assert one["layout"] == three["layout"] == layout
    assert one["points"][0]["passes_per_word"] == three["points"][0]["passes_per_word"]
    assert {report["points"][0]["tokens"] for report in (one, three)} == {prompt_tokens(decalage, options)}


def prompt_tokens(decalage: Decalage, options: tuple[str, ...]) -> int:
    """The length of the baseline's prompt in the model's own layout."""
    tokens: int = decalage(*options, "--json").json["points"][0]["tokens"]
    return tokens


def test_beyond_the_segments_of_a_stock_model(
    decalage: Decalage, text: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end by themselves before the 61st word, and can still be measured behind it."""
    monkeypatch.setattr(model.vocabulary, "card", replace(model.vocabulary.card, max_segment_words=None))
    options = ("--at", "60", "61", "--words", "1", "--sessions", "2", "--layout", "contiguous")
    out = decalage("bench", "reprompt", *options, "--file", text).out
    assert "contiguous layout, 2 sessions" in " ".join(out.split())
    assert "61*" in out
    assert "60*" not in out
    assert "* Longer than the 60 words" in out
    assert "A word of each of 2 sessions" in out


def test_before_the_first_word_there_is_no_cost(decalage: Decalage) -> None:
    """At wait-7, nothing is written behind 5 source words."""
    ran = decalage("bench", "reprompt", "--at", "5", "--wait-k", "7", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "invalid_input")
    assert "at least k = 7 words, got 5" in ran.err

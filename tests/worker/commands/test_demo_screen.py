"""The demo's screen, rendered without a terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from protocol import OutputTextDelta
from tests.worker.commands.talks import PLACE, SENTENCES, delta, first_sentence, play, whole_talk
from worker.commands import demo_view
from worker.commands.demo_screen import Screen, ending, source_line, target_line
from worker.commands.demo_view import View, summarize


def lines_of(view: View, width: int = 80, height: int = 24) -> list[str]:
    """The screen's lines, without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    options = console.options.update(width=width, height=height)
    return ["".join(part.text for part in line).rstrip() for line in console.render_lines(Screen(PLACE, view), options)]


def test_the_current_pair_shows_the_lag_of_each_word() -> None:
    """Source above target; small numbers behind the target words; the header above."""
    lines = lines_of(first_sentence())
    assert lines[0] == "demo     English → French · wait-2 · a model"
    assert "redis-cli -u redis://127.0.0.1:6379/0 XRANGE 'decalage:{demo-1}:target' - +" in lines
    assert lines[lines.index("I am here.") + 1] == "Je₂ suis₂ là.₁"


def test_finished_sentences_stay_above() -> None:
    """The finished pair without small numbers but with its average lagging, then the sentence being spoken."""
    lines = lines_of(play(first_sentence(), 1))
    start = lines.index("I am here.")
    assert lines[start : start + 4] == ["I am here.", "Je suis là.  AL 1.5", "", "You …"]


@given(st.integers(1, 130), st.integers(1, 50), st.booleans())
def test_the_screen_never_outgrows_the_terminal(width: int, height: int, is_whole: bool) -> None:
    """At no size is there a line too long, or one too many: either would scroll the terminal."""
    lines = lines_of(whole_talk() if is_whole else first_sentence(), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_a_low_terminal_keeps_the_current_pair() -> None:
    """Where not everything fits, the header goes first."""
    lines = lines_of(first_sentence(), height=5)
    assert lines[:2] == ["I am here.", "Je₂ suis₂ là.₁"]


def test_words_that_were_read_stand_out() -> None:
    """Read words are bold, the others dim."""
    sentence = play(demo_view.begin(SENTENCES), 0, 0, 0, delta(0, 0, "Je", 2)).sentences[0]
    line = source_line(sentence)
    styles = {line.plain[span.start : span.end]: span.style for span in line.spans}
    assert styles == {"I": "bold", "am": "bold", "here.": "dim"}


@pytest.mark.parametrize(("word", "shown"), [(delta(0, 0, "a", 12), "a₁₂"), (delta(0, 4, "b", 3), " b₋₁")])
def test_lags_of_any_size(word: OutputTextDelta, shown: str) -> None:
    """Two digits and negative numbers are small too."""
    sentence = demo_view.Sentence(("x",), target=(word,))
    assert target_line(sentence, 3).plain == shown


def test_the_ending_lists_the_figures() -> None:
    """One figure a line."""
    console = Console(file=(file := io.StringIO()), width=100)
    console.print(ending(summarize(whole_talk()), 2.5))
    assert "5 in, 4 out, in 1.2 s" in file.getvalue()

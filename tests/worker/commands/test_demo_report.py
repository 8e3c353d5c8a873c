"""The demo as text: header, lines, figures and the JSON document."""

import msgspec

from protocol import Adaptive
from tests.worker.commands.talks import PLACE, SENTENCES, first_sentence, whole_talk
from worker.commands import demo_view
from worker.commands.demo_report import document, figures, header, pair_line
from worker.commands.demo_view import summarize


def test_the_header_says_what_runs_and_where() -> None:
    """Languages and policy at once, the model once the session is there, the broker, and how to follow."""
    before = dict(header(PLACE, demo_view.begin(SENTENCES)))
    assert before == {
        "demo": "English → French · wait-2",
        "broker": "redis://127.0.0.1:6379/0",
        "session": "demo-1",
        "follow": "decalage watch demo-1",
    }
    assert dict(header(PLACE, whole_talk()))["demo"] == "English → French · wait-2 · a model"


def test_commands_for_another_terminal() -> None:
    """The braces of the key are quoted; a Redis of the user's own is named to `watch` too."""
    assert PLACE.redis_line == "redis-cli -u redis://127.0.0.1:6379/0 XRANGE 'decalage:{demo-1}:target' - +"
    own = msgspec.structs.replace(PLACE, is_embedded=False)
    assert own.watch_line == "decalage watch demo-1 --redis redis://127.0.0.1:6379/0"


def test_one_line_for_each_sentence() -> None:
    """Source, translation and average lagging, where that is defined."""
    lines = [pair_line(sentence) for sentence in whole_talk().sentences]
    assert lines == ["I am here. → Je suis là.  [AL 1.5]", "You come. → Viens."]


def test_figures_without_a_value_are_left_out() -> None:
    """Nothing is shown as zero that was not measured."""
    names = [name for name, _ in figures(summarize(whole_talk()), 2.5)]
    assert names == ["words", "average lagging", "first word", "each word", "speed"]
    assert [name for name, _ in figures(summarize(demo_view.begin(SENTENCES)), 0)] == ["words"]


def test_the_speakers_pace_stands_beside_the_speed() -> None:
    """At speaking pace the speed is the speaker's, and the figures say so."""
    summary = summarize(whole_talk(), 6)
    assert dict(figures(summary, 2.5))["speed"] == "3.3 words/s written; the speaker's pace: 2.5"
    assert dict(figures(summary, 0))["speed"] == "3.3 words/s written; at full speed"
    assert dict(figures(summary, 0))["work"] == "1.50 forward passes a word, 2.0 tokens a word"


def test_the_document_holds_every_word() -> None:
    """Each word has what had been read when it was written, its lag and its delays."""
    view = first_sentence()
    found = msgspec.to_builtins(document(PLACE, view, summarize(view)))
    segment = found["segments"][0]
    assert (segment["source"], segment["target"], segment["finish_reason"]) == ("I am here.", "Je suis là.", "stop")
    assert [word["source_words_read"] for word in segment["words"]] == [2, 3, 3]
    assert [word["lag_words"] for word in segment["words"]] == [2, 2, 1]
    assert {word["delay_ms"] for word in segment["words"]} == {10}
    assert found["summary"]["segments"] == 1


def test_the_lag_that_stands_out_is_beyond_what_the_policy_aims_at() -> None:
    """That is k, or the larger bound of an adaptive policy."""
    assert PLACE.max_lag_words == 2
    assert msgspec.structs.replace(PLACE, policy=Adaptive(min_k=1, max_k=5)).max_lag_words == 5

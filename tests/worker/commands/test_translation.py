"""A model and one text at a time."""

import pytest

from protocol import SessionCreate, WaitK, check
from worker.commands.faults import CommandError
from worker.commands.translation import Model, Translation, new_task, read_prompt
from worker.engine.errors import UnsupportedPrompt


def test_words_concatenate_to_the_text(model: Model) -> None:
    """The texts of the words are the translation, also over the border of a sentence."""
    translation = Translation(model, new_task(model, "Good morning. Where is the station?", "fr"))
    seen = "".join(word.text for word in translation)
    assert seen == translation.text
    assert "  " not in seen
    assert translation.words_per_s > 0
    assert translation.finish_reason == "stop"


def test_nothing_written_yet_has_no_figures(model: Model) -> None:
    """Before it begins, a translation has neither words nor a lag."""
    translation = Translation(model, new_task(model, "Good morning.", "fr"))
    assert (translation.text, translation.average_lagging, translation.words_per_s) == ("", None, 0.0)


def test_its_time_is_the_models_not_the_readers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes its time between two words does not slow the figures down."""
    clock = [0.0]

    def tick() -> float:
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr("worker.commands.translation.perf_counter", tick)
    translation = Translation(model, new_task(model, "Good morning.", "fr"))
    for _ in translation:
        clock[0] += 1_000.0
    # One step of the clock for each event: the words, the end of the segment, the end of all.
    assert translation.compute_s == len(translation.words) + 2


def test_a_task_is_a_legal_session(model: Model) -> None:
    """What a prompt sets could be sent to a worker as it is; a language model of sentences gets sentences."""
    task = new_task(model, "Translate to German: Hello there.", None, policy=WaitK(k=7))
    check(SessionCreate(session=task.session))
    assert task.session.target_language == "de"
    assert task.session.policy == WaitK(k=7)
    assert task.session.segmentation == "sentence"
    assert list(task.source_words) == ["Hello", "there."]


def test_prompts_that_ask_for_nothing_or_for_two_things(model: Model) -> None:
    """They are refused before anything is computed."""
    with pytest.raises(CommandError, match="leave one out"):
        new_task(model, "Translate to German: Hello.", "fr")
    with pytest.raises(CommandError, match="no words"):
        new_task(model, "Translate to German: ", None)
    with pytest.raises(CommandError, match="empty"):
        read_prompt(" \n")
    with pytest.raises(UnsupportedPrompt, match="--to fr"):
        new_task(model, "Hello.", None)

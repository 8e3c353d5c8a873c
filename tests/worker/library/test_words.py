"""Whole texts through the session machine, for the command line."""

from typing import Any

import pytest

from protocol import Limits, OutputTextDelta, SegmentDone, Session, WaitK
from worker import StreamingModel
from worker.engine.errors import EngineError, UnsupportedPrompt
from worker.engine.text.tokenizer import Vocabulary
from worker.library.vocabulary import vocabulary_of
from worker.library.words import generate_words, split_prompt

TEXT = "The weather is nice. I do not know where he lives."


def test_deltas_make_up_their_segments(model: StreamingModel, vocabulary: Vocabulary) -> None:
    """The texts of a segment's deltas are the text that its end repeats."""
    session = Session(target_language="fr", segmentation="sentence", policy=WaitK(k=3))
    events = list(generate_words(model, vocabulary, session, TEXT))
    done = [event for event in events if isinstance(event, SegmentDone)]
    assert [event.source_words for event in done] == [4, 7]
    for end in done:
        deltas = [event for event in events if isinstance(event, OutputTextDelta) and event.segment == end.segment]
        assert "".join(delta.text for delta in deltas) == end.text
        assert deltas[0].source_words_read == 3


def test_completion_reads_all_first(model: StreamingModel, vocabulary: Vocabulary) -> None:
    """In the other mode every word has seen the whole source."""
    session = Session(target_language="de", mode="completion")
    events = list(generate_words(model, vocabulary, session, "I do not know where he lives."))
    assert {event.source_words_read for event in events if isinstance(event, OutputTextDelta)} == {7}


def test_completion_of_a_stock_model_is_a_plain_sequence(stock: tuple[StreamingModel, Any]) -> None:
    """Its target stands right behind its source, as its own chat template has it."""
    session, text = split_prompt(vocabulary_of(stock[1]), "Hello you")
    options = Session(mode="completion", limits=Limits(max_new_words=2, max_tokens_per_word=4))
    events = list(generate_words(stock[0], vocabulary_of(stock[1]), options, text))
    assert session.target_language is None
    assert isinstance(events[-1], SegmentDone)


def test_a_prompt_is_split_into_options_and_words(vocabulary: Vocabulary) -> None:
    """ "Translate to German:" names the language; what the model cannot do is refused."""
    session, text = split_prompt(vocabulary, "Translate to German: Hello you")
    assert (session.target_language, text) == ("de", "Hello you")
    assert split_prompt(vocabulary, "Hello", "fr")[0].target_language == "fr"
    with pytest.raises(UnsupportedPrompt, match="only translates"):
        split_prompt(vocabulary, "Sing a song")


def test_refusals_of_the_machine_are_raised(model: StreamingModel, vocabulary: Vocabulary) -> None:
    """Options that the model lacks, and a text that is too long for one segment."""
    with pytest.raises(UnsupportedPrompt, match="got target_language 'es'"):
        list(generate_words(model, vocabulary, Session(target_language="es"), "Hello"))
    with pytest.raises(UnsupportedPrompt, match="512"):
        list(generate_words(model, vocabulary, Session(target_language="fr"), "word " * 600))


def test_a_failing_engine_is_told(
    model: StreamingModel, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the engine meets becomes an EngineError with its words."""

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(model, "batch", fail)
    with pytest.raises(EngineError, match="no room"):
        list(generate_words(model, vocabulary, Session(target_language="fr"), "Hello you"))
